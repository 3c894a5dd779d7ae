//! What the operating system knows of this process.

/// The most memory that the process ever held in RAM, in bytes; `None` where the
/// system does not tell. Linux counts it as `VmHWM` (proc_pid_status(5)): pages of
/// a software adapter's buffers and of the program itself are among them.
#[must_use]
pub fn peak_host_bytes() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_in_kilobytes() {
        let status = "Name:\twgpt\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 17 kB\n";
        assert_eq!(high_water_mark(status), Some(1234 * 1024));
        assert_eq!(high_water_mark("VmRSS:\t 17 kB\n"), None);
        assert_eq!(high_water_mark("VmHWM:\t many kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_grows_with_what_the_process_holds() {
        let before = peak_host_bytes().unwrap();
        let held = vec![1_u8; 64 << 20];
        let after = peak_host_bytes().unwrap();
        assert!(after >= 64 << 20 && after >= before, "{before} {after}");
        assert_eq!(held[held.len() - 1], 1);
    }
}
