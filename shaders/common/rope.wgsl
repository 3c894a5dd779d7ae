// Rotary position embedding (Su et al. 2021, "RoFormer") in its interleaved form:
// adjacent elements are a pair, (a, b) -> (a cos - b sin, a sin + b cos). Elements that
// are not rotated, including the padding of a head, have (cos, sin) = (1, 0).
// [n_ctx, head4]: cos and sin of the two pairs in four elements
@group(0) @binding(14) var<storage, read> rope: array<vec4<f32>>;

// Rotates four consecutive elements of a row's head. `i` counts the head's `head4` vec4.
fn turned(row: u32, i: u32, head4: u32, value: vec4<f32>) -> vec4<f32> {
    let turn = rope[row_position(row) * head4 + i];
    return value * turn.xxzz + value.yxwz * vec4<f32>(-turn.y, turn.y, -turn.w, turn.w);
}
