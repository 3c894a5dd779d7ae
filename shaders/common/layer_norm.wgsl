// Parameters and bindings shared by the layer norm kernels.
struct LayerNormParams {
    // Features, without padding.
    n: u32,
    // Row length divided by 4.
    stride4: u32,
    epsilon: f32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: LayerNormParams;
@group(0) @binding(1) var<uniform> step: Step;
// [first_row + n_rows, 4 * stride4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [2, 4 * stride4]: weight, then bias
@group(0) @binding(3) var<storage, read> scale: array<vec4<f32>>;
// [n_rows, 4 * stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// Returns x - mean, and zeros in the padding.
fn centred(value: vec4<f32>, mean: f32, i: u32) -> vec4<f32> {
    let used = vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4<u32>(params.n);
    return select(vec4<f32>(0.0), value - mean, used);
}

