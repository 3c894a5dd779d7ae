// Represents minus infinity, because compilers may assume that infinity does not occur.
// exp of its distance to any score is 0.
const MASKED: f32 = -1e30;

// Returns exp of a number that is at most 0.
fn exp_nonpositive(x: f32) -> f32 {
    return exp(max(x, -100.0));
}

// Returns exp of four numbers that are at most 0.
fn exp4_nonpositive(x: vec4<f32>) -> vec4<f32> {
    return exp(max(x, vec4<f32>(-100.0)));
}
