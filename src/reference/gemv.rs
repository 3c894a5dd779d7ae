/// Returns `activation(weights * x + bias)`.
///
/// `x` is `[k]`, `weights` is `[n, k]`, `bias` is `[n]`; returns `[n]`.
#[must_use]
pub fn gemv(x: &[f32], weights: &[f32], bias: Option<&[f32]>, activation: impl Fn(f64) -> f64) -> Vec<f32> {
    weights
        .chunks(x.len())
        .enumerate()
        .map(|(n, row)| {
            let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            activation(sum + bias.map_or(0.0, |bias| f64::from(bias[n]))) as f32
        })
        .collect()
}
