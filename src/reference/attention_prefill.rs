use super::attention_decode;

/// Causal attention of one head: row `i` sees positions `0 ..= position + i`.
///
/// `q` is `[n_rows, head_dim]`, `k` and `v` are `[position + n_rows, head_dim]`;
/// returns `[n_rows, head_dim]`.
#[must_use]
pub fn attention_prefill(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    head_dim: usize,
    position: usize,
    scale: f32,
) -> Vec<f32> {
    q.chunks(head_dim)
        .enumerate()
        .flat_map(|(row, q)| {
            let seen = (position + row + 1) * head_dim;
            attention_decode(q, &k[..seen], &v[..seen], scale)
        })
        .collect()
}
