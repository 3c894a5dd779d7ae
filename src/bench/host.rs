//! Facts from the operating system about this process and its machine.

use serde::Serialize;

/// The machine, as the operating system describes it without another program. On Linux
/// all fields are known; elsewhere only the first three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Operating system: linux, windows, macos.
    pub os: &'static str,
    /// CPU architecture: x86_64, aarch64.
    pub arch: &'static str,
    /// Logical cores that this process may use; 1 if unknown.
    pub cpu_cores: usize,
    /// Name and version of the operating system.
    pub system: Option<String>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Name of the processor.
    pub cpu: Option<String>,
    /// RAM in bytes.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Describes the machine that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).ok();
        Machine {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpu_cores: std::thread::available_parallelism().map_or(1, usize::from),
            // Formats: os-release(5), proc_sys_kernel(5), proc_cpuinfo(5),
            // proc_meminfo(5).
            system: read("/etc/os-release").and_then(|text| {
                let quoted = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
                Some(quoted.trim().trim_matches(['"', '\'']).to_owned())
            }),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            cpu: read("/proc/cpuinfo").and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            }),
            memory_bytes: read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemTotal:")),
        }
    }
}

/// Returns the peak RAM usage of this process in bytes, or `None` if the system does not
/// report it. Linux reports it as `VmHWM` (proc_pid_status(5)). It includes the program's
/// own pages and a software adapter's buffers.
#[must_use]
pub fn peak_host_bytes() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Returns the number of bytes on the line that begins with `label`. The line counts in
/// kB, as in the files of /proc.
fn kilobytes(text: &str, label: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(label))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_kilobytes() {
        let status = "Name:\twgpt\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 17 kB\n";
        assert_eq!(kilobytes(status, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(kilobytes("VmRSS:\t 17 kB\n", "VmHWM:"), None);
        assert_eq!(kilobytes("VmHWM:\t many kB\n", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_describes_the_machine() {
        let machine = Machine::this();
        assert!(machine.cpu_cores > 0 && machine.memory_bytes.unwrap() > 64 << 20, "{machine:?}");
        assert!(!machine.kernel.unwrap().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_grows_with_allocations() {
        let before = peak_host_bytes().unwrap();
        let held = vec![1_u8; 64 << 20];
        let after = peak_host_bytes().unwrap();
        assert!(after >= 64 << 20 && after >= before, "{before} {after}");
        assert_eq!(held[held.len() - 1], 1);
    }
}
