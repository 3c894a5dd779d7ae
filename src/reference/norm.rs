/// Returns the layer normalization of each row (Ba, Kiros and Hinton 2016).
///
/// `x` is `[n_rows, n]`, `weight` and `bias` are `[n]`; returns `[n_rows, n]`.
#[must_use]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let n = weight.len();
    x.chunks(n)
        .flat_map(|row| {
            let mean = row.iter().copied().map(f64::from).sum::<f64>() / n as f64;
            let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
            (0..n).map(move |i| {
                ((f64::from(row[i]) - mean) * factor * f64::from(weight[i]) + f64::from(bias[i])) as f32
            })
        })
        .collect()
}

/// Returns the RMS normalization of each row (Zhang and Sennrich 2019).
///
/// `x` is `[n_rows, n]`, `weight` is `[n]`; returns `[n_rows, n]`.
#[must_use]
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let n = weight.len();
    x.chunks(n)
        .flat_map(|row| {
            let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
            (0..n).map(move |i| (f64::from(row[i]) * factor * f64::from(weight[i])) as f32)
        })
        .collect()
}
