use super::{rms_norm, rotary};

/// Returns the RMS normalization of each head, rotated by `rotary`.
///
/// `heads` is `[n_heads, head_dim]`, `weight` is `[head_dim]`. `cos_sin` holds cosine and
/// sine of the first pairs; later pairs are not rotated. Returns `[n_heads, head_dim]`.
#[must_use]
pub fn qk_norm(heads: &[f32], weight: &[f32], epsilon: f32, cos_sin: &[[f32; 2]]) -> Vec<f32> {
    let normed = rms_norm(heads, weight, epsilon);
    normed.chunks(weight.len()).flat_map(|head| rotary(head, cos_sin)).collect()
}
