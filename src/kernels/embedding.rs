//! Token embedding with a factor, plus the position embedding if a model has one.

use super::fragments::{self, POSITIONS_LEARNED, POSITIONS_NONE, STEP, pack};
use super::{Matrix, MatrixLayout, Rows, StepRows};
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static EMBEDDING: Kernel = Kernel {
    name: "embedding",
    source: include_str!("../../shaders/embedding.wgsl"),
    bindings: &[
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "token_ids"),
        Binding::read(3, "wte"),
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
    /// Rows of wpe; 0 if there is none.
    pub n_positions: u32,
    /// Factor applied to wte.
    pub scale: f32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// Returns the variant for a weight type and a layout. `positions` is the kind of rows
/// whose position embeddings are added; `None` if there are none.
#[must_use]
pub fn variant(dtype: DType, layout: MatrixLayout, positions: Option<Rows>) -> Variant {
    let mut fragments = vec![STEP, pack(dtype), fragments::weights(layout)];
    match positions {
        Some(rows) => fragments.extend([fragments::rows(rows), POSITIONS_LEARNED]),
        None => fragments.push(POSITIONS_NONE),
    }
    Variant {
        kernel: &EMBEDDING,
        strategy: Strategy::PerThread,
        fragments,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
    }
}

/// Embedding of the step's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// The step's rows and their positions.
    pub rows: StepRows<'a>,
    /// `[n_rows]`, u32; each id is below the vocabulary size.
    pub token_ids: &'a GpuBuffer,
    /// `[vocab_size, n_embd]`
    pub wte: &'a Matrix,
    /// `[n_positions, n_embd]`, in one piece, of wte's type and layout; `None` if
    /// attention encodes the positions.
    pub wpe: Option<&'a Matrix>,
    /// Factor applied to the token embedding: 1, or sqrt(n_embd) in Gemma.
    pub scale: f32,
    /// `[n_rows, n_embd]`
    pub out: &'a GpuBuffer,
}

/// Records `op`: one dispatch per piece of wte.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &Embedding<'_>) -> Result<()> {
    if let Some(wpe) = op.wpe {
        assert_eq!(op.wte.n_columns, wpe.n_columns, "widths of wte and wpe");
        assert_eq!(op.wte.dtype, wpe.dtype, "types of wte and wpe");
        assert_eq!(op.wte.layout, wpe.layout, "layouts of wte and wpe");
        assert_eq!(wpe.pieces.len(), 1, "wpe is in one piece");
    }
    let n_embd8 = (op.wte.n_columns / 8) as u32;
    let variant = variant(op.wte.dtype, op.wte.layout, op.wpe.map(|_| op.rows.kind()));
    for piece in &op.wte.pieces {
        let params = EmbeddingParams {
            n_embd8,
            first_token: piece.first_row as u32,
            n_tokens: piece.n_rows as u32,
            n_positions: op.wpe.map_or(0, |wpe| wpe.n_rows as u32),
            scale: op.scale,
            unused: [0; 3],
        };
        let mut buffers = vec![op.rows.step, op.token_ids.into(), (&piece.buffer).into()];
        buffers.extend(op.wpe.map(|wpe| BoundBuffer::from(&wpe.pieces[0].buffer)));
        buffers.push(op.out.into());
        buffers.extend(op.wpe.and(op.rows.batch));
        let grid = Grid::Line { per_row: n_embd8, group: WORKGROUP_SIZE };
        recorder.dispatch(&variant, &params, &buffers, grid)?;
    }
    Ok(())
}
