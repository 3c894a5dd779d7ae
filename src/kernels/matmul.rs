//! What gemv and gemm share: the operation, the epilogue, the params.

use super::matrix::{Matrix, Piece};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Recorder, Variant};

/// Activation function in the epilogue, by the numbers that the shaders use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// The identity.
    #[default]
    None = 0,
    /// GELU's tanh form (Hendrycks and Gimpel 2016): transformers' gelu_new,
    /// gelu_pytorch_tanh and gelu_fast are one function.
    GeluTanh = 1,
    /// GELU with the error function: transformers' gelu.
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
    /// All of them.
    pub const ALL: [Activation; 7] = [
        Activation::None,
        Activation::GeluTanh,
        Activation::Gelu,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
    ];

    /// The name that reports print.
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
    /// 1 where the bias is added.
    pub has_bias: u32,
    /// 1 where the result is added to the output buffer.
    pub accumulate: u32,
    /// Features of a layer normalization in front; 0 without one.
    pub norm_n: u32,
    /// What it adds to the variance.
    pub epsilon: f32,
    /// [`super::OverflowFlag::tag`] where the output is appended to a cache.
    pub tag: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 2],
}

/// `out = activate(x * weights^T + bias) [+ out]`.
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
    /// Applied after the bias.
    pub activation: Activation,
    /// Adds to `out`: the residual connection.
    pub accumulate: bool,
    /// Output, `[n_rows, weights.n_rows]`.
    pub out: &'a GpuBuffer,
}

impl Matmul<'_> {
    /// Records one dispatch a piece of the matrix.
    pub(super) fn record(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        grid: impl Fn(usize) -> Grid,
    ) -> Result<()> {
        self.record_with(recorder, variant, |_| (), &[], grid)
    }

    /// As [`Matmul::record`] with parameters that `fuse` sets, for what is fused, and
    /// bindings behind those of every matmul.
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
        assert!(self.out.bytes() >= (weights.n_rows * 4) as u64, "out is shorter than a row");
        assert!(
            self.bias.is_none_or(|bias| bias.bytes() >= (weights.n_rows * 4) as u64),
            "bias is too short"
        );
        for piece in &weights.pieces {
            let mut params = self.params(piece);
            fuse(&mut params);
            let [step, weights, bias, out] = self.bound(piece);
            let own = [step, self.x.into(), weights, bias, out];
            recorder.dispatch(variant, &params, &[&own, more].concat(), grid(piece.n_rows))?;
        }
        Ok(())
    }

    /// The parameters for one piece, with nothing fused.
    pub(super) fn params(&self, piece: &Piece) -> MatmulParams {
        MatmulParams {
            n: piece.n_rows as u32,
            k8: (self.weights.n_columns / 8) as u32,
            out_offset4: (piece.first_row / 4) as u32,
            out_stride4: (self.weights.n_rows / 4) as u32,
            activation: self.activation as u32,
            has_bias: u32::from(self.bias.is_some()),
            accumulate: u32::from(self.accumulate),
            norm_n: 0,
            epsilon: 0.0,
            tag: 0,
            unused: [0; 2],
        }
    }

    /// What every kernel binds behind the parameters, but for x: step, weights,
    /// bias, out.
    pub(super) fn bound<'b>(&'b self, piece: &'b Piece) -> [BoundBuffer<'b>; 4] {
        // Without a bias something readable must be bound in its place.
        let bias = self.bias.unwrap_or(&piece.buffer);
        [self.step, (&piece.buffer).into(), bias.into(), self.out.into()]
    }
}
