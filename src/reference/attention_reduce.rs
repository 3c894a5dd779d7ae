/// Online-softmax state of one split of one head.
#[derive(Clone, Debug)]
pub struct Partial {
    /// Weighted values, `[head_dim]`, relative to `max`.
    pub acc: Vec<f32>,
    /// Largest score of the split.
    pub max: f32,
    /// Sum of the weights, relative to `max`.
    pub sum: f32,
}

/// Merges the splits of one head. Returns `[head_dim]`.
#[must_use]
pub fn attention_reduce(partials: &[Partial]) -> Vec<f32> {
    let max = partials.iter().map(|p| p.max).fold(f32::NEG_INFINITY, f32::max);
    let factor = |p: &Partial| (f64::from(p.max) - f64::from(max)).exp();
    let sum: f64 = partials.iter().map(|p| f64::from(p.sum) * factor(p)).sum();
    (0..partials[0].acc.len())
        .map(|d| (partials.iter().map(|p| f64::from(p.acc[d]) * factor(p)).sum::<f64>() / sum) as f32)
        .collect()
}
