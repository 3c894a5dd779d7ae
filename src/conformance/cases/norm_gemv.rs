//! Cases of a projection after a norm.

use std::fmt;

use super::activation::{STEEPEST, function, function_error};
use super::data::{Random, U, batch, floats, input, matrix, pad_columns, record, rounded, step, sum_error};
use super::gated::{gated_expected, interleaved};
use super::paged::{Flag, KvShape, Pages};
use super::rotary::RotaryShape;
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Work};
use crate::kernels::kv_append::KvAppend;
use crate::kernels::norm_gemv::{self, NormGemv};
use crate::kernels::{
    Activation, Choices, Matmul, MatmulForm, Norm, NormForm, PAGE_SIZE, PagedKv, Rotary, Row, SLABS_MAX,
    Step, StepRows, gemv,
};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// Operation after the projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AfterProjection {
    /// An activation, with the given number of output features.
    Activation(Activation, usize),
    /// A gated MLP, with the given number of output features.
    Gated(Activation, usize),
    /// The projection is q, k and v, and k and v are appended to a cache.
    Cache(KvShape),
    /// Like `Cache` with f16 elements. The number is planted in a key and in a value, and
    /// the f16 overflow flag is bound.
    Planted(KvShape, f32),
    /// Like `Cache`, or like `Planted` if there is a number. In addition, q and k are
    /// rotated over the whole head.
    Rotated(KvShape, Option<f32>),
}

/// `activate(norm(x) * weights^T + bias)` for a few rows.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGemvCase {
    /// The norm.
    pub norm: NormForm,
    /// Number of rows.
    pub m: usize,
    /// Index of the first of these rows in x.
    pub first_row: usize,
    /// Features of the norm.
    pub n_embd: usize,
    /// Data type of the weights.
    pub dtype: DType,
    /// Operation after the projection.
    pub after: AfterProjection,
    /// Factor of x; x is about 1 without it.
    pub magnitude: f32,
}

const EPSILON: f32 = 1e-5;

impl NormGemvCase {
    /// Creates a case of one row with values of about 1.
    #[must_use]
    pub fn one_row(norm: NormForm, n_embd: usize, dtype: DType, after: AfterProjection) -> Self {
        NormGemvCase { norm, m: 1, first_row: 0, n_embd, dtype, after, magnitude: 1.0 }
    }

    fn outputs(&self) -> Axis {
        match self.after {
            AfterProjection::Activation(_, n) | AfterProjection::Gated(_, n) => Axis::plain(n),
            AfterProjection::Cache(kv)
            | AfterProjection::Planted(kv, _)
            | AfterProjection::Rotated(kv, _) => row_of(kv).axis(),
        }
    }

    /// Returns the number of rows of the weights, without padding.
    fn n_weight_rows(&self) -> usize {
        let n = self.outputs().len();
        if matches!(self.after, AfterProjection::Gated(..)) { 2 * n } else { n }
    }

    /// Returns the cache to which k and v are appended, and the number planted there.
    fn cache(&self) -> Option<(KvShape, Option<f32>)> {
        match self.after {
            AfterProjection::Activation(..) | AfterProjection::Gated(..) => None,
            AfterProjection::Cache(kv) => Some((kv, None)),
            AfterProjection::Planted(kv, number) => Some((kv, Some(number))),
            AfterProjection::Rotated(kv, number) => Some((kv, number)),
        }
    }

    fn activation(&self) -> Activation {
        match self.after {
            AfterProjection::Activation(activation, _) | AfterProjection::Gated(activation, _) => activation,
            AfterProjection::Cache(_) | AfterProjection::Planted(..) | AfterProjection::Rotated(..) => {
                Activation::None
            }
        }
    }

    /// Returns row i of the batch. Its sequence's pages follow those of i other
    /// sequences. It is appended at position 17, the second position of its second page.
    fn row(row: usize) -> Row {
        Row { position: 17, kv_len: 18, first_page: 2 * row as u32, unused: 0 }
    }

    /// Plants the number in the last element of the first head's key and of the last
    /// head's value. In odd heads, no rotation affects that element. The element's bias
    /// is the number, and its weights are zero.
    fn plant(&self, weights: &mut [f32], bias: &mut [f32]) {
        let Some((kv, Some(number))) = self.cache() else { return };
        let shape = row_of(kv);
        for output in [(shape.n_head + 1) * shape.head_dim - 1, shape.axis().len() - 1] {
            weights[output * self.n_embd..][..self.n_embd].fill(0.0);
            bias[output] = number;
        }
    }

    /// Returns value and tolerance of `[m, outputs]`.
    fn expected(&self, x: &[f32], scale: &[Vec<f32>; 2], weights: &[f32], bias: &[f32]) -> Vec<Expected> {
        let k = self.n_embd;
        let normed = match self.norm {
            NormForm::Layer => reference::layer_norm(x, &scale[0], &scale[1], EPSILON),
            NormForm::Rms => reference::rms_norm(x, &scale[0], EPSILON),
        };
        let activate = function(self.activation());
        let sums = reference::gemm(&normed, weights, Some(bias), k, |sum| sum);
        let magnitudes = |values: &[f32]| values.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        // The error of the norm relative to its largest output: two sums of k terms, and
        // the rounding by weight and bias.
        let largest = normed.iter().fold(1.0f32, |max, x| max.max(x.abs()));
        let ones = vec![largest; normed.len()];
        let magnitude = reference::gemm(&ones, &magnitudes(weights), Some(&magnitudes(bias)), k, |sum| sum);
        let error = 2.0 * sum_error(k) + 16.0 * U;
        let sum_error = |i: usize| error * f64::from(magnitude[i]);
        if let AfterProjection::Gated(activation, n) = self.after {
            return gated_expected(activation, n, &sums, sum_error);
        }
        let want = reference::gemm(&normed, weights, Some(bias), k, activate);
        let mut expected: Vec<Expected> = (0..want.len())
            .map(|i| {
                let want = f64::from(want[i]);
                let through = STEEPEST * sum_error(i);
                let function = function_error(self.activation(), f64::from(sums[i]).abs());
                Expected::Value { want, tolerance: through + function + 2.0 * U * want.abs() }
            })
            .collect();
        if let AfterProjection::Rotated(kv, _) = self.after {
            let rotary = row_of(kv);
            let rows = expected.chunks_mut(rotary.axis().len()).enumerate();
            rows.for_each(|(i, row)| rotary.rotate(row, Self::row(i).position as usize));
        }
        expected
    }

    pub(super) fn prepare(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let (axis, columns) = (self.outputs(), Axis::plain(self.n_embd));
        let mut random = Random::new(9);
        let rows = self.first_row + self.m;
        // Rows with different means and spreads.
        let mut x = random.uniform(rows * self.n_embd, 1.0);
        for (row, x) in x.chunks_mut(self.n_embd).enumerate() {
            x.iter_mut().for_each(|x| *x = (*x * (1.0 + row as f32) + 0.5 * row as f32) * self.magnitude);
        }
        let scale = [random.uniform(self.n_embd, 2.0), random.uniform(self.n_embd, 1.0)];
        let n_rows = self.n_weight_rows();
        let mut weights = rounded(self.dtype, random.uniform(n_rows * self.n_embd, 1.0));
        let mut bias = random.uniform(n_rows, 1.0);
        self.plant(&mut weights, &mut bias);
        let used = &x[self.first_row * self.n_embd..];
        let expected = self.expected(used, &scale, &weights, &bias);

        let x = floats(gpu, "x", &pad_columns(&x, columns))?;
        let scale = &scale[..self.norm.n_vectors()];
        let scale = floats(gpu, "scale", &pad_columns(&scale.concat(), columns))?;
        let mut rows = axis;
        if let AfterProjection::Gated(_, n) = self.after {
            (weights, bias) = (interleaved(&weights, n, self.n_embd), interleaved(&bias, n, 1));
            rows = Axis::plain(bias.len());
        }
        let weights = matrix(gpu, self.dtype, &weights, rows, columns, rows.padded_len())?;
        let bias = floats(gpu, "bias", &pad_columns(&bias, rows))?;
        let normed = floats(gpu, "normed", &vec![0.0; self.m * columns.padded_len()])?;
        let (output, out) =
            Output::new(gpu, "out", Format::Float(DType::F32), &[], self.expected_out(&expected))?;
        let (n_rows, first_row) = (self.m as u32, self.first_row as u32);
        let step = step(gpu, Step { n_rows, first_row, ..Step::default() })?;
        let batch = batch(gpu, &(0..self.m).map(Self::row).collect::<Vec<_>>())?;
        let rows = StepRows { step: (&step).into(), batch: Some((&batch).into()) };
        let cache = match self.cache() {
            Some((kv, number)) => {
                Some(Cache::new(gpu, kv, self.m, &expected, number.is_some(), &mut random)?)
            }
            None => None,
        };
        let rope = match self.after {
            AfterProjection::Rotated(kv, _) => Some(row_of(kv).table(gpu, Self::row(0).kv_len as usize)?),
            _ => None,
        };
        let dispatches = record(gpu, |recorder| {
            let projection = Matmul {
                step: (&step).into(),
                x: &normed,
                weights: &weights,
                bias: Some(&bias),
                activation: self.activation(),
                soft_cap: None,
                form: self.form(rows, rope.as_ref()),
                accumulate: false,
                out: &out,
                rows_at_once: None,
            };
            let append = cache.as_ref().map(|cache| cache.append(rows, &out));
            let norm = Norm {
                form: self.norm,
                step: (&step).into(),
                n: self.n_embd,
                epsilon: EPSILON,
                x: &x,
                scale: &scale,
                accumulate: false,
                out: &normed,
            };
            let op = NormGemv { norm, projection, append };
            norm_gemv::record(recorder, choices, gemv::batch_for(self.m), &op)
        })?;
        let mut outputs = vec![(output, out)];
        if let Some(cache) = cache {
            outputs.extend(cache.outputs.into_iter().zip(cache.slabs));
            outputs.extend(cache.flag.map(Flag::output));
        }
        Ok(Prepared {
            case,
            reason: "f32 sums of k terms in the norm and after it, relative to the sum of the magnitudes; \
                the activation's own error; rounding to the cache's type",
            dispatches,
            work: Work { n_rows, kv_len: 18 },
            outputs,
        })
    }

    /// Returns the expected output buffer. It may or may not contain k and v.
    fn expected_out(&self, expected: &[Expected]) -> Vec<Expected> {
        let axis = self.outputs();
        let width = axis.padded_len();
        let mut out = vec![Expected::exactly(0.0); self.m * width];
        for (i, &element) in expected.iter().enumerate() {
            out[i / axis.len() * width + axis.position(i % axis.len())] = element;
        }
        if let Some((kv, _)) = self.cache() {
            for row in out.chunks_mut(width) {
                row[row_of(kv).n_head * axis.padded..].fill(Expected::Any);
            }
        }
        out
    }

    fn form<'a>(&self, rows: StepRows<'a>, rope: Option<&'a GpuBuffer>) -> MatmulForm<'a> {
        match (self.after, rope) {
            (AfterProjection::Gated(..), _) => MatmulForm::Gated,
            (AfterProjection::Rotated(kv, _), Some(table)) => {
                let (n_heads, head_dim) = (row_of(kv).n_rotated(), pad_row(kv.head_dim));
                MatmulForm::Rotated(Rotary { rows, table, n_heads, head_dim })
            }
            _ => MatmulForm::Plain,
        }
    }
}

/// Returns the row of q, k and v for a cache. All whole pairs of a head are rotated.
fn row_of(kv: KvShape) -> RotaryShape {
    let KvShape { n_head, n_kv_head, head_dim, .. } = kv;
    RotaryShape { n_head, n_kv_head, head_dim, rotary_dim: head_dim / 2 * 2 }
}

/// Returns whether a number overflows the f16 cache that stores it.
fn exceeds_f16(kv: KvShape, want: f64) -> bool {
    kv.dtype == DType::F16 && reference::exceeds_f16(want as f32)
}

/// A cache and its expected content.
struct Cache {
    kv: KvShape,
    page_table: GpuBuffer,
    slabs: Vec<GpuBuffer>,
    spare: Vec<GpuBuffer>,
    flag: Option<Flag>,
    outputs: Vec<Output>,
}

impl Cache {
    /// `expected` contains value and tolerance of q, k and v, as rows of heads.
    fn new(
        gpu: &Gpu,
        kv: KvShape,
        m: usize,
        expected: &[Expected],
        planted: bool,
        random: &mut Random,
    ) -> Result<Self> {
        let pages = Pages::scattered(kv, 2 * PAGE_SIZE * m, random);
        let mut elements = vec![vec![Expected::Untouched; pages.slab_elems()]; kv.n_slabs];
        let rounding = if kv.dtype == DType::F16 { 1.0 / 1024.0 } else { 0.0 };
        let shape = row_of(kv);
        let (n_kv_head, width) = (shape.n_kv_head, shape.axis().len());
        for row in 0..m {
            let at = NormGemvCase::row(row);
            let position = at.first_page as usize * PAGE_SIZE + at.position as usize;
            for (part, head) in (0..2).flat_map(|part| (0..n_kv_head).map(move |head| (part, head))) {
                let (slab, index) = pages.locate(part, position, head);
                let run = &mut elements[slab][index..][..pad_row(kv.head_dim)];
                run.fill(Expected::exactly(0.0));
                let from = row * width + (shape.n_head + part * n_kv_head + head) * kv.head_dim;
                for (element, &value) in run.iter_mut().zip(&expected[from..from + kv.head_dim]) {
                    *element = match value {
                        // WGSL does not specify the result.
                        Expected::Value { want, .. } if exceeds_f16(kv, want) => Expected::Any,
                        Expected::Value { want, tolerance } => {
                            // One unit of the cache's type, including subnormal values.
                            let unit = want.abs() * rounding + rounding / f64::from(1 << 14);
                            Expected::Value { want, tolerance: tolerance + unit }
                        }
                        other => other,
                    };
                }
            }
        }
        let (mut outputs, mut slabs, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        for elements in elements {
            let (output, slab) = Output::new(gpu, "slab", Format::Float(kv.dtype), &[], elements)?;
            outputs.push(output);
            slabs.push(slab);
        }
        for _ in kv.n_slabs..SLABS_MAX {
            spare.push(input(gpu, "spare slab", &[])?);
        }
        let page_table = input(gpu, "page_table", bytemuck::cast_slice(&pages.entries))?;
        let exceeds = |part: usize| {
            let from = (shape.n_head + part * n_kv_head) * kv.head_dim;
            let all = expected.chunks(width).flat_map(|row| &row[from..][..n_kv_head * kv.head_dim]);
            let mut wants = all.filter_map(|element| match *element {
                Expected::Value { want, .. } => Some(want),
                _ => None,
            });
            // All rows have the same position.
            wants.any(|want| exceeds_f16(kv, want)).then_some(NormGemvCase::row(0).position as usize)
        };
        let flag = if planted { Some(Flag::new(gpu, [0, 1].map(exceeds))?) } else { None };
        Ok(Cache { kv, page_table, slabs, spare, flag, outputs })
    }

    fn append<'a>(&'a self, rows: StepRows<'a>, qkv: &'a GpuBuffer) -> KvAppend<'a> {
        let KvShape { n_head, n_kv_head, head_dim, dtype, .. } = self.kv;
        let head_dim = pad_row(head_dim);
        let kv = PagedKv { page_table: &self.page_table, slabs: &self.slabs, dtype, n_kv_head, head_dim };
        let overflow = self.flag.as_ref().map(Flag::bound);
        KvAppend { rows, qkv, kv, n_head, spare_slabs: &self.spare, overflow }
    }
}

impl fmt::Display for NormGemvCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NormGemvCase { m, first_row, n_embd, dtype, after, magnitude, .. } = self;
        write!(f, "m={m}")?;
        if *first_row > 0 {
            write!(f, " from {first_row}")?;
        }
        if *magnitude != 1.0 {
            write!(f, " up to {magnitude:e}")?;
        }
        match after {
            AfterProjection::Activation(activation, n) => {
                write!(f, " n={n} k={n_embd} {dtype} {}", activation.name())
            }
            AfterProjection::Gated(activation, n) => {
                write!(f, " n={n} k={n_embd} {dtype} {} gated", activation.name())
            }
            AfterProjection::Cache(kv) => write!(f, " k={n_embd} {dtype} to {kv}"),
            AfterProjection::Rotated(kv, None) => write!(f, " k={n_embd} {dtype} rotated to {kv}"),
            AfterProjection::Rotated(kv, Some(number)) => {
                write!(f, " k={n_embd} {dtype} rotated to {kv} with {number:e}")
            }
            AfterProjection::Planted(kv, number) => write!(f, " k={n_embd} {dtype} to {kv} with {number:e}"),
        }
    }
}
