// Parameters, bindings and epilogue shared by gemv and gemm.
struct MatmulParams {
    // Output features of this piece of the matrix, a multiple of 8.
    n: u32,
    // Input features divided by 8.
    k8: u32,
    // First output feature of this piece, divided by 4.
    out_offset4: u32,
    // Output row length divided by 4.
    out_stride4: u32,
    // Number of the activation function, 0 for none.
    activation: u32,
    // 1 if `bias` is added.
    has_bias: u32,
    // 1 if the result is added to `out` (the residual stream).
    accumulate: u32,
    // Features of the preceding normalization, and the epsilon that it adds to the
    // variance or to the mean of the squares.
    norm_n: u32,
    epsilon: f32,
    // Tag recorded with the position of an f16 overflow, if the output is appended to a cache.
    tag: u32,
    // Bound of the soft cap, 0 for none.
    soft_cap: f32,
    // Rotated elements of a row, and elements of a head, each divided by 4; 0 without a
    // rotation.
    rotated4: u32,
    head4: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: MatmulParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n, 8 * k8]: the rows of this piece, located by row_start
@group(0) @binding(3) var<storage, read> weights: array<Pack>;
// [4 * out_stride4]: the bias of the whole matrix
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
// [n_rows, 4 * out_stride4]
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

// Adds the bias to four consecutive outputs. `column` counts vec4 of the whole matrix.
fn biased(column: u32, sum: vec4<f32>) -> vec4<f32> {
    var value = sum;
    if (params.has_bias == 1u) {
        value += bias[column];
    }
    return value;
}

// Rotates the first heads of a row by the row's position. Takes four consecutive elements
// of a row; `column` counts vec4 of the row.
fn rotated(row: u32, column: u32, value: vec4<f32>) -> vec4<f32> {
    if (column >= params.rotated4) {
        return value;
    }
    return turned(row, column % params.head4, params.head4, value);
}

// Applies bias, activation, soft cap and rotation to four consecutive outputs of one row.
fn finished(row: u32, column: u32, sum: vec4<f32>) -> vec4<f32> {
    var value = activate(params.activation, biased(column, sum));
    if (params.soft_cap > 0.0) {
        value = soft_capped(value, params.soft_cap);
    }
    return rotated(row, column, value);
}

// Finishes and stores four consecutive outputs of one row. `n4` counts vec4 of this
// piece.
fn epilogue(row: u32, n4: u32, sum: vec4<f32>) {
    let column = params.out_offset4 + n4;
    var value = finished(row, column, sum);
    let at = row * params.out_stride4 + column;
    if (params.accumulate == 1u) {
        value += out[at];
    }
    out[at] = value;
}

