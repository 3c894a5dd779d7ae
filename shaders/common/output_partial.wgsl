// Partial sums over a part of k. gemm_sum adds them up and applies the epilogue.

// [SPLITS * n_rows, n]
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;

fn store_output(row: u32, n4: u32, sum: vec4<f32>) {
    partial[row * (params.n / 4u) + n4] = sum;
}

