//! What changes from step to step, as the shaders read it.

use crate::gpu::BoundBuffer;

/// The shaders' `Step`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Rows of activations that this pass works on.
    pub n_rows: u32,
    /// The first of them in the input.
    pub first_row: u32,
    /// Position in the sequence of row 0 of the chunk.
    pub position: u32,
    /// Positions in the KV cache once this chunk is appended.
    pub kv_len: u32,
}

/// Rows of a decode step at the most: two readings of the weights.
pub const BATCH_MAX: usize = 16;

/// Rows of any sequences in one pass at the most: the length of the shaders' array.
/// 4 KiB of a uniform, of which 16 KiB are portable; tiles of gemm are full by then.
pub const ROWS_MAX: usize = 256;

/// One row of a batch; the shaders' `Row`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Row {
    /// Position in its sequence.
    pub position: u32,
    /// Positions of its sequence in the KV cache, its own included.
    pub kv_len: u32,
    /// Where its sequence's pages begin in the page table.
    pub first_page: u32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// The rows of a batch; the shaders' `Rows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Batch {
    /// Those beyond the step's number are unused.
    pub rows: [Row; ROWS_MAX],
}

/// What the rows of a step are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Neighbouring positions of one sequence.
    Chunk,
    /// Positions of any sequences, at most [`ROWS_MAX`].
    Batch,
}

/// A step's rows, as kernels bind them.
#[derive(Clone, Copy, Debug)]
pub struct StepRows<'a> {
    /// [`Step`]: the number of rows; of a chunk also the first position.
    pub step: BoundBuffer<'a>,
    /// [`Batch`], where the rows are not a chunk.
    pub batch: Option<BoundBuffer<'a>>,
}

impl StepRows<'_> {
    /// What they are.
    #[must_use]
    pub fn kind(&self) -> Rows {
        if self.batch.is_some() { Rows::Batch } else { Rows::Chunk }
    }
}
