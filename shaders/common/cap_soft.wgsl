// Limits attention scores to the range from -soft_cap to soft_cap (Gemma 2: Gemma Team
// 2024, arXiv 2408.00118, section 2).
fn capped(scores: vec4<f32>, soft_cap: f32) -> vec4<f32> {
    return soft_capped(scores, soft_cap);
}
