// Matrices of 8 x 8 that a subgroup holds together: products of f16, sums in f32.
const SIDE: u32 = 8u;
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;

