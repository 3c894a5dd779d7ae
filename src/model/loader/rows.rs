//! The rows of a matrix: their places in the file and on the GPU.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{MatrixLayout, Piece};
use crate::model::spec::{Layout, TensorSpec};
use crate::tensor::ROW_ALIGN_ELEMS;

/// Some rows of a piece of a matrix, contiguous in GPU memory.
pub(super) struct Block<'a> {
    pub(super) spec: &'a TensorSpec,
    pub(super) piece: &'a Piece,
    /// The rows of the piece, including padding.
    pub(super) cut: Range<usize>,
    pub(super) layout: MatrixLayout,
}

/// Consecutive rows of one tensor.
pub(super) struct Run {
    /// Index of the tensor in the spec's sources.
    pub(super) source: usize,
    /// The first row, not counting skipped rows.
    first: usize,
    /// For each row, its row in the piece.
    pub(super) places: Vec<usize>,
}

impl Run {
    /// Returns the run's rows in the file.
    pub(super) fn file_rows(&self, spec: &TensorSpec) -> Range<usize> {
        let first = self.first + spec.sources[self.source].skipped;
        first..first + self.places.len()
    }

    /// Returns the index, in the tensor's file order, of the `i`th element that was read.
    pub(super) fn file_index(&self, spec: &TensorSpec, i: usize) -> usize {
        let (rows, source) = (self.file_rows(spec), &spec.sources[self.source]);
        match spec.layout {
            Layout::Transposed => {
                let n_rows = source.rows + source.skipped;
                i / rows.len() * n_rows + rows.start + i % rows.len()
            }
            _ => rows.start * spec.columns.len() + i,
        }
    }
}

impl Block<'_> {
    /// Returns the rows in the order of reading: sorted by tensor and row, with
    /// consecutive rows joined.
    pub(super) fn runs(&self) -> Vec<Run> {
        let place = |row: usize| Some((self.spec.rows.source(self.piece.first_row + row)?, row));
        let mut rows: Vec<_> = self.cut.clone().filter_map(place).collect();
        rows.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for ((source, row), place) in rows {
            match runs.last_mut() {
                Some(run) if run.source == source && run.first + run.places.len() == row => {
                    run.places.push(place)
                }
                _ => runs.push(Run { source, first: row, places: vec![place] }),
            }
        }
        runs
    }

    fn width(&self) -> usize {
        self.spec.columns.padded_len()
    }

    /// Returns the block's elements on the GPU, all zero.
    pub(super) fn zeroed<T: bytemuck::Pod>(&self) -> Vec<T> {
        vec![T::zeroed(); self.cut.len() * self.width()]
    }

    /// Copies the values of a run to their places in `out`.
    pub(super) fn place<T: bytemuck::Pod>(&self, run: &Run, values: &[T], out: &mut [T]) {
        let columns = self.spec.columns;
        let (n_rows, n_packs) = (self.piece.n_rows, self.width() / ROW_ALIGN_ELEMS);
        let (n, start) = (run.places.len(), self.cut.start * self.width());
        let transposed = self.spec.layout == Layout::Transposed;
        for (i, &row) in run.places.iter().enumerate() {
            for column in 0..columns.len() {
                let from = if transposed { column * n + i } else { i * columns.len() + column };
                let position = columns.position(column);
                let pack = self.layout.pack_index(row, position / ROW_ALIGN_ELEMS, n_rows, n_packs);
                out[pack * ROW_ALIGN_ELEMS + position % ROW_ALIGN_ELEMS - start] = values[from];
            }
        }
    }

    /// Uploads the elements. Returns their bytes.
    pub(super) fn upload<T: bytemuck::Pod>(&self, gpu: &Gpu, out: &[T]) -> Result<u64> {
        let data = bytemuck::cast_slice(out);
        gpu.upload(&self.piece.buffer, (self.cut.start * self.width() * size_of::<T>()) as u64, data)?;
        Ok(data.len() as u64)
    }
}
