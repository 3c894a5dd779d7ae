use super::gemv;

/// Returns `activation(x * weights^T + bias)` for each row of `x`.
///
/// `x` is `[m, k]`, `weights` is `[n, k]`, `bias` is `[n]`; returns `[m, n]`.
#[must_use]
pub fn gemm(
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    k: usize,
    activation: impl Fn(f64) -> f64 + Copy,
) -> Vec<f32> {
    x.chunks(k).flat_map(|row| gemv(row, weights, bias, activation)).collect()
}
