// Rotary embedding (Su et al. 2021, "RoFormer") of the first heads of a row, by the
// row's position: a pair (a, b) of neighbours becomes (a cos - b sin, a sin + b cos).
// What is not rotated of a head, its padding too, has angles of 0 in the table.
// [n_ctx, head4]: cos and sin of two neighbouring pairs
@group(0) @binding(14) var<storage, read> rope: array<vec4<f32>>;

// Four neighbouring elements of a row; `column` counts vec4.
fn rotated(row: u32, column: u32, value: vec4<f32>) -> vec4<f32> {
    if (column >= params.rotated4) {
        return value;
    }
    let turn = rope[row_position(row) * params.head4 + column % params.head4];
    return vec4<f32>(
        value.x * turn.x - value.y * turn.y,
        value.x * turn.y + value.y * turn.x,
        value.z * turn.z - value.w * turn.w,
        value.z * turn.w + value.w * turn.z,
    );
}
