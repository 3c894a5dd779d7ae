// No position embeddings: zeros.
fn position_embedding(row: u32, column: u32) -> mat2x4<f32> {
    return mat2x4<f32>();
}
