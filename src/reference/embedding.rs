/// Returns `scale * wte[token]`, plus `wpe[position + row]` if given, for each token.
///
/// `wte` is `[vocab_size, n_embd]`, `wpe` is `[n_positions, n_embd]`; returns
/// `[n_tokens, n_embd]`.
#[must_use]
pub fn embedding(
    token_ids: &[u32],
    position: usize,
    wte: &[f32],
    wpe: Option<&[f32]>,
    scale: f32,
    n_embd: usize,
) -> Vec<f32> {
    let mut out = Vec::new();
    for (row, &token) in token_ids.iter().enumerate() {
        for i in 0..n_embd {
            let position = wpe.map_or(0.0, |wpe| wpe[(position + row) * n_embd + i]);
            let token = wte[token as usize * n_embd + i];
            out.push((f64::from(token) * f64::from(scale) + f64::from(position)) as f32);
        }
    }
    out
}
