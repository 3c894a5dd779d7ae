// The plain output of gemv and gemm.
fn store_output(row: u32, n4: u32, sum: vec4<f32>) {
    epilogue(row, n4, sum);
}

