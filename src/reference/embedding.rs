/// `wte[token] + wpe[position + row]` for each token.
///
/// `wte` is `[vocab_size, n_embd]`, `wpe` is `[n_positions, n_embd]`; returns
/// `[n_tokens, n_embd]`.
#[must_use]
pub fn embedding(token_ids: &[u32], position: usize, wte: &[f32], wpe: &[f32], n_embd: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for (row, &token) in token_ids.iter().enumerate() {
        for i in 0..n_embd {
            out.push(wte[token as usize * n_embd + i] + wpe[(position + row) * n_embd + i]);
        }
    }
    out
}
