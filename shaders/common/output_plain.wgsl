// The output of a gemv as it is.
fn store_output(row: u32, n4: u32, sum: vec4<f32>) {
    epilogue(row, n4, sum);
}

