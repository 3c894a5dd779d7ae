// Returns sum[i] + w_i . x for four rows of weights or keys, added in ascending order of
// k: the inner step of gemv and of the scores on software adapters.
fn add_dots(
    w0: vec4<f32>,
    w1: vec4<f32>,
    w2: vec4<f32>,
    w3: vec4<f32>,
    x: vec4<f32>,
    sum: vec4<f32>,
) -> vec4<f32> {
    var total = fma(vec4<f32>(w0.x, w1.x, w2.x, w3.x), vec4<f32>(x.x), sum);
    total = fma(vec4<f32>(w0.y, w1.y, w2.y, w3.y), vec4<f32>(x.y), total);
    total = fma(vec4<f32>(w0.z, w1.z, w2.z, w3.z), vec4<f32>(x.z), total);
    return fma(vec4<f32>(w0.w, w1.w, w2.w, w3.w), vec4<f32>(x.w), total);
}

// Returns `sum` plus the values of four positions, each times its weight.
fn add_scaled(
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
    v3: vec4<f32>,
    weight: vec4<f32>,
    sum: vec4<f32>,
) -> vec4<f32> {
    var total = fma(v0, vec4<f32>(weight.x), sum);
    total = fma(v1, vec4<f32>(weight.y), total);
    total = fma(v2, vec4<f32>(weight.z), total);
    return fma(v3, vec4<f32>(weight.w), total);
}
