// Parameters and bindings shared by the RMS norm kernels.
struct RmsNormParams {
    // Features, without padding.
    n: u32,
    // Row length divided by 4.
    stride4: u32,
    epsilon: f32,
    // 1 if the result is added to `out`.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: RmsNormParams;
@group(0) @binding(1) var<uniform> step: Step;
// [first_row + n_rows, 4 * stride4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [4 * stride4]
@group(0) @binding(3) var<storage, read> scale: array<vec4<f32>>;
// [n_rows, 4 * stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// Stores four consecutive outputs, or adds them to `out`.
fn store(at: u32, value: vec4<f32>) {
    if (params.accumulate == 1u) {
        out[at] += value;
    } else {
        out[at] = value;
    }
}

