/// Returns a copy of `x`.
#[must_use]
pub fn probe_copy(x: &[u8]) -> Vec<u8> {
    x.to_vec()
}
