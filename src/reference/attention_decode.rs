/// Attention of one query over all given positions.
///
/// `q` is `[head_dim]`, `k` and `v` are `[n_keys, head_dim]`; returns `[head_dim]`.
#[must_use]
pub fn attention_decode(q: &[f32], k: &[f32], v: &[f32], scale: f32) -> Vec<f32> {
    let head_dim = q.len();
    let dot = |row: &[f32]| q.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let scores: Vec<f64> = k.chunks(head_dim).map(|row| dot(row) * f64::from(scale)).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    (0..head_dim)
        .map(|d| {
            let value: f64 =
                v.chunks(head_dim).zip(&weights).map(|(row, weight)| f64::from(row[d]) * weight).sum();
            (value / sum) as f32
        })
        .collect()
}
