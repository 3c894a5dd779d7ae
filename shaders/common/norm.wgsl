// Parameters and bindings shared by the norm kernels.
struct NormParams {
    // Features, without padding.
    n: u32,
    // Row length divided by 4.
    stride4: u32,
    // Added to the variance or to the mean of the squares.
    epsilon: f32,
    // 1 if the result is added to `out`; 0 for a layer norm.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: NormParams;
@group(0) @binding(1) var<uniform> step: Step;
// [first_row + n_rows, 4 * stride4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [2, 4 * stride4]: weight, then bias; for an RMS norm [4 * stride4]: the weight
@group(0) @binding(3) var<storage, read> scale: array<vec4<f32>>;
// [n_rows, 4 * stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// Returns x - mean, and zeros in the padding.
fn centred(value: vec4<f32>, mean: f32, i: u32) -> vec4<f32> {
    let used = vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4<u32>(params.n);
    return select(vec4<f32>(0.0), value - mean, used);
}

// Stores four consecutive outputs, or adds them to `out`.
fn store(at: u32, value: vec4<f32>) {
    if (params.accumulate == 1u) {
        out[at] += value;
    } else {
        out[at] = value;
    }
}

