//! Values that change from step to step, as the shaders read them.

use crate::gpu::BoundBuffer;

/// The shaders' `Step`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Rows of activations in this pass.
    pub n_rows: u32,
    /// Index of the first of these rows in the input.
    pub first_row: u32,
    /// Position of the chunk's row 0 in the sequence.
    pub position: u32,
    /// Positions in the KV cache after this chunk is appended.
    pub kv_len: u32,
}

/// Maximum rows of a decode step: two passes over the weights.
pub const BATCH_MAX: usize = 16;

/// Maximum rows of any sequences in one pass: the length of the shaders' array. It takes
/// 4 KiB of a uniform, of which 16 KiB are portable. At this size the tiles of gemm are
/// full.
pub const ROWS_MAX: usize = 256;

/// One row of a batch; the shaders' `Row`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Row {
    /// Position in its sequence.
    pub position: u32,
    /// Positions of its sequence in the KV cache, including its own.
    pub kv_len: u32,
    /// Index in the page table of its sequence's first page.
    pub first_page: u32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// The rows of a batch; the shaders' `Rows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Batch {
    /// Rows beyond the step's number are unused.
    pub rows: [Row; ROWS_MAX],
}

/// The kind of a step's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Consecutive positions of one sequence.
    Chunk,
    /// Positions of any sequences, at most [`ROWS_MAX`].
    Batch,
}

/// A step's rows, as kernels bind them.
#[derive(Clone, Copy, Debug)]
pub struct StepRows<'a> {
    /// [`Step`]: the number of rows; for a chunk also the first position.
    pub step: BoundBuffer<'a>,
    /// [`Batch`], if the rows are not a chunk.
    pub batch: Option<BoundBuffer<'a>>,
}

impl StepRows<'_> {
    /// Returns the kind of these rows.
    #[must_use]
    pub fn kind(&self) -> Rows {
        if self.batch.is_some() { Rows::Batch } else { Rows::Chunk }
    }
}
