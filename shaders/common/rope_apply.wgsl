// Rotary position embedding (Su et al. 2021), in its interleaved form: neighbouring
// elements are a pair, (a, b) -> (a cos - b sin, a sin + b cos). A pair that does not
// rotate has (1, 0).
// [n_ctx, HEAD_DIM / 4]: cos and sin of the two pairs of four elements
@group(0) @binding(4) var<storage, read> rope: array<vec4<f32>>;

// Four neighbouring elements of a head of a row; `i` counts vec4 of the head.
fn rotate(row: u32, i: u32, value: vec4<f32>) -> vec4<f32> {
    let turn = rope[row_position(row) * (HEAD_DIM / 4u) + i];
    return value * turn.xxzz + value.yxwz * vec4<f32>(-turn.y, turn.y, -turn.w, turn.w);
}

