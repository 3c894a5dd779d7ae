use super::Attention;

/// Computes causal attention of rows. Row `i` sees the positions up to `position + i`;
/// with a window, only the last `window` of them.
///
/// `q` is `[n_rows, n_head, head_dim]`, `k` and `v` are
/// `[n_kv_head, position + n_rows, head_dim]`; returns `[n_rows, n_head, head_dim]`.
#[must_use]
pub fn attention_prefill(
    attention: &Attention,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    position: usize,
) -> Vec<f32> {
    let rows = q.chunks(attention.n_head * attention.head_dim).enumerate();
    rows.flat_map(|(row, q)| attention.row(q, k, v, position + row)).collect()
}
