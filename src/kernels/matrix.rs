//! A weight matrix on the GPU: how it is divided and how it lies.

use crate::gpu::{GpuBuffer, Strategy};
use crate::tensor::DType;

/// In which order a matrix's packs, eight neighbouring elements of a row, lie in
/// memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatrixLayout {
    /// Row by row: where threads share a row.
    Rows,
    /// In blocks of 64 rows, of which eight threads take eight neighbouring ones
    /// each: first the four lower rows of every thread, then the four upper ones, for
    /// the two passes of `gemv_per_thread`; of each four pack by pack, and of a pack
    /// first that of every thread's first row, then of every thread's second one. So
    /// the eight threads of a vector read 128 neighbouring bytes of f16 at a time, and
    /// a pass is one stream of memory. Blocks, read in one pass, gave 12 to 13.6 GB/s
    /// against 7.3 row by row on a software adapter of two cores; two passes over rows
    /// that were not apart took 1.5 times as long (benches/record/NOTES.md). The last
    /// block of a piece has the rows that are left, a multiple of eight, and an eighth
    /// as many threads.
    Blocks,
}

/// Rows of a block.
const BLOCK_ROWS: usize = 64;

/// Neighbouring rows of one thread; rows are padded to a multiple of them.
const THREAD_ROWS: usize = 8;

/// Rows that a thread reads in one pass over the packs.
const PASS_ROWS: usize = 4;

impl MatrixLayout {
    /// Both.
    pub const ALL: [MatrixLayout; 2] = [MatrixLayout::Rows, MatrixLayout::Blocks];

    /// The one that the kernels of a strategy read fastest; all of them read both.
    #[must_use]
    pub const fn preferred_by(strategy: Strategy) -> Self {
        match strategy {
            Strategy::PerThread => MatrixLayout::Blocks,
            Strategy::Workgroup | Strategy::Subgroup => MatrixLayout::Rows,
        }
    }

    /// Where pack `pack` of row `row` lies in a piece of `n_rows` rows of
    /// `n_packs` packs, counted in packs.
    #[must_use]
    pub const fn pack_index(self, row: usize, pack: usize, n_rows: usize, n_packs: usize) -> usize {
        match self {
            MatrixLayout::Rows => row * n_packs + pack,
            MatrixLayout::Blocks => {
                let first = row / BLOCK_ROWS * BLOCK_ROWS;
                let left = n_rows - first;
                let rows = if left < BLOCK_ROWS { left } else { BLOCK_ROWS };
                let threads = rows / THREAD_ROWS;
                let (thread, own) = ((row - first) / THREAD_ROWS, row % THREAD_ROWS);
                let (pass, own) = (own / PASS_ROWS, own % PASS_ROWS);
                first * n_packs + ((pass * n_packs + pack) * PASS_ROWS + own) * threads + thread
            }
        }
    }
}

/// Most rows of a piece: gemm gives a workgroup 4 outputs at the least, and one
/// dimension of a grid has at most 65,535 workgroups.
const PIECE_ROWS_MAX: usize = 1 << 17;

/// Rows `first_row ..` of a matrix, in a buffer of their own.
#[derive(Debug)]
pub struct Piece {
    /// First row, a multiple of 8.
    pub first_row: usize,
    /// Number of rows, a multiple of 8.
    pub n_rows: usize,
    /// `[n_rows, n_columns]` in the matrix's layout.
    pub buffer: GpuBuffer,
}

/// A matrix on the GPU, `[n_rows, n_columns]`, both multiples of 8, split by rows
/// into pieces that fit the adapter's storage binding.
#[derive(Debug)]
pub struct Matrix {
    /// Element type.
    pub dtype: DType,
    /// How each piece lies in its buffer.
    pub layout: MatrixLayout,
    /// Rows with padding: output features.
    pub n_rows: usize,
    /// Columns with padding: input features.
    pub n_columns: usize,
    /// Pieces by rising row.
    pub pieces: Vec<Piece>,
}

impl Matrix {
    /// Rows of each piece but the last, for a binding of `max_binding_bytes`: whole
    /// blocks where a binding has room for one.
    #[must_use]
    pub fn rows_per_piece(n_columns: usize, dtype: DType, max_binding_bytes: u64) -> usize {
        let row_bytes = (n_columns * dtype.size_bytes()) as u64;
        let most = (max_binding_bytes / row_bytes) as usize;
        let unit = if most >= BLOCK_ROWS { BLOCK_ROWS } else { THREAD_ROWS };
        // At least eight: a single row beyond the limit is refused when its buffer
        // is allocated.
        (most / unit * unit).clamp(THREAD_ROWS, PIECE_ROWS_MAX)
    }

    /// Into how many rows at a time a piece may be cut, other than at its end.
    pub const CUT_ROWS: usize = BLOCK_ROWS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pack_has_one_place() {
        for layout in MatrixLayout::ALL {
            for (n_rows, n_packs) in [(8, 1), (56, 3), (64, 2), (72, 5), (200, 1)] {
                let mut taken = vec![false; n_rows * n_packs];
                for (row, pack) in (0..n_rows).flat_map(|row| (0..n_packs).map(move |pack| (row, pack))) {
                    let at = layout.pack_index(row, pack, n_rows, n_packs);
                    assert!(!taken[at], "{layout:?} {n_rows} x {n_packs}: row {row}, pack {pack}");
                    taken[at] = true;
                }
            }
        }
    }

    #[test]
    fn threads_of_a_block_read_neighbouring_packs() {
        let at = |row, pack| MatrixLayout::Blocks.pack_index(row, pack, 72, 4);
        // Eight threads, first rows 0, 8 .. 56.
        assert_eq!((0..8).map(|thread| at(8 * thread, 0)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((at(1, 0), at(9, 0), at(0, 1)), (8, 9, 32));
        // The second pass.
        assert_eq!((at(4, 0), at(12, 0), at(5, 0), at(4, 1)), (128, 129, 136, 160));
        // A last block of one thread.
        assert_eq!((at(64, 0), at(65, 0), at(64, 1), at(68, 0)), (256, 257, 260, 272));
    }

    #[test]
    fn pieces_are_whole_blocks_where_they_fit() {
        assert_eq!(Matrix::rows_per_piece(64, DType::F16, 128 * 1000), 960);
        assert_eq!(Matrix::rows_per_piece(1024, DType::F16, 40 * 2048 + 5), 40);
        assert_eq!(Matrix::rows_per_piece(1024, DType::F16, 5), 8);
    }
}
