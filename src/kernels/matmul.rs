//! The operation, epilogue and parameters shared by gemv and gemm.

use super::matmul_form::MatmulForm;
use super::matrix::Matrix;
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Recorder, Variant};

/// Activation function in the epilogue, with the numbers that the shaders use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Activation {
    /// The identity.
    #[default]
    None = 0,
    /// GELU, tanh form (Hendrycks and Gimpel 2016). This function is gelu_new,
    /// gelu_pytorch_tanh and gelu_fast in transformers.
    GeluTanh = 1,
    /// GELU with the error function: gelu in transformers.
    Gelu = 2,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu = 3,
    /// `max(x, 0)`.
    Relu = 4,
    /// `x * sigmoid(x)`.
    Silu = 5,
    /// Hyperbolic tangent.
    Tanh = 6,
}

impl Activation {
    /// All activation functions.
    pub const ALL: [Activation; 7] = [
        Activation::None,
        Activation::GeluTanh,
        Activation::Gelu,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
    ];

    /// Returns the name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Activation::None => "none",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Gelu => "gelu",
            Activation::QuickGelu => "quick_gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Tanh => "tanh",
        }
    }
}

/// The shaders' `MatmulParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct MatmulParams {
    /// Output features of this piece of the matrix, a multiple of 8.
    pub n: u32,
    /// Input features divided by 8.
    pub k8: u32,
    /// First output feature of this piece, divided by 4.
    pub out_offset4: u32,
    /// Output row length divided by 4.
    pub out_stride4: u32,
    /// Number of the activation function.
    pub activation: u32,
    /// 1 if the bias is added.
    pub has_bias: u32,
    /// 1 if the result is added to the output buffer.
    pub accumulate: u32,
    /// Features of the preceding normalization; 0 if there is none.
    pub norm_n: u32,
    /// Added to the variance or the mean of the squares in that normalization.
    pub epsilon: f32,
    /// [`super::OverflowFlag::tag`], if the output is appended to a cache.
    pub tag: u32,
    /// Bound of the soft cap; 0 if there is none.
    pub soft_cap: f32,
    /// Rotated elements of a row, divided by 4.
    pub rotated4: u32,
    /// Elements of a rotated head, divided by 4.
    pub head4: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// `out = activate(x * weights^T + bias) [+ out]`, in one of several forms.
#[derive(Clone, Copy, Debug)]
pub struct Matmul<'a> {
    /// The step, for the number of rows.
    pub step: BoundBuffer<'a>,
    /// Input, `[n_rows, weights.n_columns]`.
    pub x: &'a GpuBuffer,
    /// `[out_features, in_features]`.
    pub weights: &'a Matrix,
    /// `[weights.n_rows]`, f32.
    pub bias: Option<&'a GpuBuffer>,
    /// Applied after the bias; in a gated MLP, to the gate.
    pub activation: Activation,
    /// `cap * tanh(x / cap)` after the activation, for a cap above 0 (Gemma 2); not for a
    /// gated MLP.
    pub soft_cap: Option<f32>,
    /// A gated MLP, a rotary embedding, or neither.
    pub form: MatmulForm<'a>,
    /// Whether to add to `out` (the residual connection); not for a gated MLP.
    pub accumulate: bool,
    /// Output, `[n_rows, weights.n_rows]`; half as many columns for a gated MLP.
    pub out: &'a GpuBuffer,
    /// Maximum matrix rows per dispatch, a multiple of [`Matrix::CUT_ROWS`]; `None` for
    /// whole pieces. The result has the same bits in both cases.
    pub rows_at_once: Option<usize>,
}

/// Matrix rows that one dispatch computes: a piece or part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    first_row: usize,
    pub(super) n_rows: usize,
    weights: BoundBuffer<'a>,
}

impl Matmul<'_> {
    /// Records one dispatch per slice of the matrix.
    pub(super) fn record(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        grid: impl Fn(usize) -> Grid,
    ) -> Result<()> {
        self.record_with(recorder, variant, |_| (), &[], grid)
    }

    /// As [`Matmul::record`], but `fuse` sets the parameters of fused operations. The
    /// buffers of `more` are bound after the buffers of every matmul and before those of
    /// the form.
    pub(super) fn record_with(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        fuse: impl Fn(&mut MatmulParams),
        more: &[BoundBuffer<'_>],
        grid: impl Fn(usize) -> Grid,
    ) -> Result<()> {
        let weights = self.weights;
        assert!(self.x.bytes() >= (weights.n_columns * 4) as u64, "x is shorter than a row");
        let out_columns = self.form.out_columns(weights.n_rows);
        assert!(self.out.bytes() >= (out_columns * 4) as u64, "out is shorter than a row");
        let gated = matches!(self.form, MatmulForm::Gated);
        assert!(
            !gated || (self.soft_cap.is_none() && !self.accumulate),
            "a gate has no cap and adds nothing"
        );
        assert!(
            self.bias.is_none_or(|bias| bias.bytes() >= (weights.n_rows * 4) as u64),
            "bias is too short"
        );
        for slice in self.slices() {
            let mut params = self.params(slice);
            fuse(&mut params);
            let [step, weights, bias, out] = self.bound(slice);
            let own = [step, self.x.into(), weights, bias, out];
            let bound = [&own, more, &self.form.bindings()].concat();
            recorder.dispatch(variant, &params, &bound, grid(slice.n_rows))?;
        }
        Ok(())
    }

    /// Returns the pieces, cut into slices. Both layouts keep [`Matrix::CUT_ROWS`] rows
    /// together, and a row has at least eight f16, 16 bytes. Each cut is therefore at a
    /// multiple of 256 bytes, the alignment of a binding's offset.
    pub(super) fn slices(&self) -> impl Iterator<Item = Slice<'_>> {
        let row_bytes = self.weights.n_columns * self.weights.dtype.size_bytes();
        self.weights.pieces.iter().flat_map(move |piece| {
            let at_once = self.rows_at_once.unwrap_or(piece.n_rows);
            assert!(
                at_once.is_multiple_of(Matrix::CUT_ROWS) || at_once >= piece.n_rows,
                "a cut within a block"
            );
            (0..piece.n_rows).step_by(at_once).map(move |first| {
                let n_rows = at_once.min(piece.n_rows - first);
                let range = |rows: usize| (rows * row_bytes) as u64;
                let weights = BoundBuffer::range(&piece.buffer, range(first), range(n_rows));
                Slice { first_row: piece.first_row + first, n_rows, weights }
            })
        })
    }

    /// Returns the parameters for one slice, with nothing fused.
    pub(super) fn params(&self, slice: Slice<'_>) -> MatmulParams {
        let [rotated, head] = self.form.rotated_elems();
        MatmulParams {
            n: slice.n_rows as u32,
            k8: (self.weights.n_columns / 8) as u32,
            out_offset4: (slice.first_row / 4) as u32,
            out_stride4: (self.form.out_columns(self.weights.n_rows) / 4) as u32,
            activation: self.activation as u32,
            has_bias: u32::from(self.bias.is_some()),
            accumulate: u32::from(self.accumulate),
            norm_n: 0,
            epsilon: 0.0,
            tag: 0,
            soft_cap: self.soft_cap.unwrap_or(0.0),
            rotated4: (rotated / 4) as u32,
            head4: (head / 4) as u32,
            unused: [0; 3],
        }
    }

    /// Returns the buffers that every kernel binds after the parameters, except x: step,
    /// weights, bias, out.
    pub(super) fn bound<'b>(&'b self, slice: Slice<'b>) -> [BoundBuffer<'b>; 4] {
        // Without a bias, another readable buffer must be bound in its place.
        let bias = self.bias.map_or(slice.weights, Into::into);
        [self.step, slice.weights, bias, self.out.into()]
    }
}
