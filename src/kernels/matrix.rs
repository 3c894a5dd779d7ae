//! A weight matrix on the GPU: its pieces and their memory layout.

use crate::gpu::{GpuBuffer, Strategy};
use crate::tensor::DType;

/// The order of a matrix's packs in memory. A pack is eight consecutive elements of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatrixLayout {
    /// Row by row, for kernels whose threads share a row.
    Rows,
    /// In blocks of 64 rows, with eight consecutive rows for each of eight threads. The
    /// four lower rows of all threads come first, then the four upper ones, for the two
    /// passes of `gemv_per_thread`. Each half is stored pack by pack. For each pack, the
    /// first rows of all threads come first, then their second rows, and so on. The eight
    /// threads of a vector therefore read 128 consecutive bytes of f16 at a time, and a
    /// pass is one stream of memory.
    ///
    /// On a software adapter with two cores, blocks reached 12 to 13.6 GB/s with one
    /// pass, against 7.3 row by row. Two passes over blocks whose halves were not
    /// separated took 1.5 times as long (benches/record/DECISIONS.md).
    ///
    /// The last block of a piece holds the remaining rows, a multiple of eight, with one
    /// thread per eight rows.
    Blocks,
}

/// Rows per block.
const BLOCK_ROWS: usize = 64;

/// Consecutive rows per thread. The rows of a matrix are padded to a multiple of this.
const THREAD_ROWS: usize = 8;

/// Rows that a thread reads in one pass over the packs.
const PASS_ROWS: usize = 4;

impl MatrixLayout {
    /// Both layouts.
    pub const ALL: [MatrixLayout; 2] = [MatrixLayout::Rows, MatrixLayout::Blocks];

    /// Returns the layout that the kernels of a strategy read fastest. All kernels read both.
    #[must_use]
    pub const fn preferred_by(strategy: Strategy) -> Self {
        match strategy {
            Strategy::PerThread => MatrixLayout::Blocks,
            Strategy::Workgroup | Strategy::Subgroup => MatrixLayout::Rows,
        }
    }

    /// Returns the index, in packs, of pack `pack` of row `row` in a piece of `n_rows`
    /// rows of `n_packs` packs.
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

/// Maximum rows per piece. A workgroup of gemm computes at least 4 outputs, and one
/// dimension of a grid has at most 65,535 workgroups.
const PIECE_ROWS_MAX: usize = 1 << 17;

/// Rows of a matrix from `first_row` on, in a separate buffer.
#[derive(Debug)]
pub struct Piece {
    /// First row, a multiple of 8.
    pub first_row: usize,
    /// Number of rows, a multiple of 8.
    pub n_rows: usize,
    /// `[n_rows, n_columns]` in the matrix's layout.
    pub buffer: GpuBuffer,
}

/// A matrix on the GPU, `[n_rows, n_columns]`, both multiples of 8. It is split by rows
/// into pieces that fit the adapter's storage bindings.
#[derive(Debug)]
pub struct Matrix {
    /// Element type.
    pub dtype: DType,
    /// Layout of each piece.
    pub layout: MatrixLayout,
    /// Rows with padding: output features.
    pub n_rows: usize,
    /// Columns with padding: input features.
    pub n_columns: usize,
    /// Pieces in ascending order of rows.
    pub pieces: Vec<Piece>,
}

impl Matrix {
    /// Returns the rows of each piece except the last, for a binding of
    /// `max_binding_bytes`. They are whole blocks if a binding can hold one.
    #[must_use]
    pub fn rows_per_piece(n_columns: usize, dtype: DType, max_binding_bytes: u64) -> usize {
        let row_bytes = (n_columns * dtype.size_bytes()) as u64;
        let most = (max_binding_bytes / row_bytes) as usize;
        let unit = if most >= BLOCK_ROWS { BLOCK_ROWS } else { THREAD_ROWS };
        // At least eight. If a piece still exceeds the limit, the allocation of its
        // buffer fails.
        (most / unit * unit).clamp(THREAD_ROWS, PIECE_ROWS_MAX)
    }

    /// Within a piece, cuts must be at multiples of this many rows.
    pub const CUT_ROWS: usize = BLOCK_ROWS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pack_has_a_unique_index() {
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
    fn pieces_are_whole_blocks_if_those_fit() {
        assert_eq!(Matrix::rows_per_piece(64, DType::F16, 128 * 1000), 960);
        assert_eq!(Matrix::rows_per_piece(1024, DType::F16, 40 * 2048 + 5), 40);
        assert_eq!(Matrix::rows_per_piece(1024, DType::F16, 5), 8);
    }
}
