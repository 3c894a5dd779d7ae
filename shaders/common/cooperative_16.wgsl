// 16 x 16 matrices that a subgroup holds jointly: f16 factors, f32 sums.
const SIDE: u32 = 16u;
alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;

