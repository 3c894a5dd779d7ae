// 8 x 8 matrices that a subgroup holds jointly: f16 factors, f32 sums.
const SIDE: u32 = 8u;
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;

