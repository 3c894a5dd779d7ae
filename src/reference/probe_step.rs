/// Returns `x + increment`, modulo 2^32.
#[must_use]
pub fn probe_step(x: &[u32], increment: u32) -> Vec<u32> {
    x.iter().map(|x| x.wrapping_add(increment)).collect()
}
