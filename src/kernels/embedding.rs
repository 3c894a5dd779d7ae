//! Token embedding plus position embedding.

use super::fragments::{self, STEP, pack};
use super::{Matrix, MatrixLayout, Rows, StepRows};
use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static EMBEDDING: Kernel = Kernel {
    name: "embedding",
    source: include_str!("../../shaders/embedding.wgsl"),
    bindings: &[
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "token_ids"),
        Binding::read(3, "wte"),
        Binding::read(4, "wpe"),
        Binding::read_write(5, "out"),
    ],
};

const WORKGROUP_SIZE: u32 = 64;

/// The shader's `EmbeddingParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct EmbeddingParams {
    /// Row length divided by 8.
    pub n_embd8: u32,
    /// First row of this piece of wte.
    pub first_token: u32,
    /// Rows of this piece of wte.
    pub n_tokens: u32,
    /// Rows of wpe.
    pub n_positions: u32,
}

/// The variant for a weight type, a layout and a kind of rows.
#[must_use]
pub fn variant(dtype: DType, layout: MatrixLayout, rows: Rows) -> Variant {
    Variant {
        kernel: &EMBEDDING,
        strategy: Strategy::PerThread,
        fragments: vec![STEP, pack(dtype), fragments::weights(layout), fragments::rows(rows)],
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
    }
}

/// Embedding of the step's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// The step's rows and their positions.
    pub rows: StepRows<'a>,
    /// `[n_rows]`, u32; each below the vocabulary's size.
    pub token_ids: &'a GpuBuffer,
    /// `[vocab_size, n_embd]`
    pub wte: &'a Matrix,
    /// `[n_positions, n_embd]`, one piece.
    pub wpe: &'a Matrix,
    /// `[n_rows, n_embd]`
    pub out: &'a GpuBuffer,
}

/// Records `op`: one dispatch a piece of wte.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &Embedding<'_>) -> Result<()> {
    assert_eq!(op.wte.n_columns, op.wpe.n_columns, "widths of wte and wpe");
    assert_eq!(op.wte.dtype, op.wpe.dtype, "types of wte and wpe");
    assert_eq!(op.wte.layout, op.wpe.layout, "layouts of wte and wpe");
    assert_eq!(op.wpe.pieces.len(), 1, "wpe lies in one piece");
    let n_embd8 = (op.wte.n_columns / 8) as u32;
    let variant = variant(op.wte.dtype, op.wte.layout, op.rows.kind());
    for piece in &op.wte.pieces {
        let params = EmbeddingParams {
            n_embd8,
            first_token: piece.first_row as u32,
            n_tokens: piece.n_rows as u32,
            n_positions: op.wpe.n_rows as u32,
        };
        let wpe = &op.wpe.pieces[0].buffer;
        let mut buffers =
            vec![op.rows.step, op.token_ids.into(), (&piece.buffer).into(), wpe.into(), op.out.into()];
        buffers.extend(op.rows.batch);
        let grid = Grid::Line { per_row: n_embd8, group: WORKGROUP_SIZE };
        recorder.dispatch(&variant, &params, &buffers, grid)?;
    }
    Ok(())
}
