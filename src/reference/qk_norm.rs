use super::rms_norm;

/// RMS normalization of each head, then rotation of its pairs (2i, 2i + 1).
///
/// `heads` is `[n_heads, head_dim]`, `weight` is `[head_dim]`; `turns` are cosine and
/// sine of the first pairs, those beyond stay as they are. Returns `[n_heads, head_dim]`.
#[must_use]
pub fn qk_norm(heads: &[f32], weight: &[f32], epsilon: f32, turns: &[(f32, f32)]) -> Vec<f32> {
    let mut out = rms_norm(heads, weight, epsilon);
    for head in out.chunks_mut(weight.len()) {
        for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(turns) {
            let [a, b, cos, sin] = [pair[0], pair[1], cos, sin].map(f64::from);
            pair[0] = (a * cos - b * sin) as f32;
            pair[1] = (a * sin + b * cos) as f32;
        }
    }
    out
}
