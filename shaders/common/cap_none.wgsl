// Leaves attention scores uncapped.
fn capped(scores: vec4<f32>, soft_cap: f32) -> vec4<f32> {
    return scores;
}

