// Learned position embeddings.
// [n_positions, 8 * n_embd8]
@group(0) @binding(4) var<storage, read> wpe: array<Pack>;

// Returns eight consecutive elements of the embedding of the row's position. `column`
// counts packs.
fn position_embedding(row: u32, column: u32) -> mat2x4<f32> {
    let position = row_position(row);
    let at = row_start(position, params.n_positions, params.n_embd8)
        + column * pack_step(position, params.n_positions);
    return unpack8(wpe[at]);
}
