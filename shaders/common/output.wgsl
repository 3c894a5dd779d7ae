// The output of gemv and gemm: the epilogue, or the gated MLP if GATED is 1.

// The gate of the four columns that were stored last. In a gated MLP, gate and up are rows
// of one matrix and alternate in groups of four. A thread that stores eight consecutive
// columns of a row, the lower four first, therefore has both.
var<private> gate: vec4<f32>;

fn store_output(row: u32, n4: u32, sum: vec4<f32>) {
    if (GATED == 0u) {
        epilogue(row, n4, sum);
        return;
    }
    let column = params.out_offset4 + n4;
    let value = biased(column, sum);
    if (column % 2u == 0u) {
        gate = activate(params.activation, value);
    } else {
        out[row * params.out_stride4 + column / 2u] = gate * value;
    }
}
