//! Cases of the merge of a decode's partial results.

use std::fmt;

use super::data::{Random, U, batch, floats, input, record, step, sum_error};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Attention, PAGE_SIZE, PagedKv, Row, Scratch, Step, StepRows, attention_reduce};
use crate::reference;
use crate::tensor::DType;

/// Merge of the partial results of a decode.
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceCase {
    /// Number of heads.
    pub n_head: usize,
    /// Elements per head, a multiple of 8.
    pub head_dim: usize,
    /// Number of splits for which there is space.
    pub max_splits: usize,
    /// Maximum positions per split.
    pub split_keys: usize,
    /// Number of positions in the cache.
    pub kv_len: usize,
    /// Number of positions that the row attends to.
    pub window: Option<usize>,
}

impl ReduceCase {
    /// Returns the number of splits in use. There are as few as possible, of equal sizes
    /// in whole pages, starting at the page of the first visible position.
    pub(super) fn n_splits(&self) -> usize {
        let first = self.kv_len.saturating_sub(self.window.unwrap_or(self.kv_len)) / PAGE_SIZE * PAGE_SIZE;
        let n_keys = self.kv_len - first;
        n_keys.div_ceil(n_keys.div_ceil(n_keys.div_ceil(self.split_keys)).next_multiple_of(PAGE_SIZE))
    }

    /// `[n_head, n_splits]`
    fn partials(&self) -> Vec<Vec<reference::Partial>> {
        let mut random = Random::new(7);
        let mut partial = |_| reference::Partial {
            acc: random.uniform(self.head_dim, 9.0),
            max: random.uniform(1, 6.0)[0],
            sum: 1.0 + random.uniform(1, 0.5)[0],
        };
        (0..self.n_head).map(|_| (0..self.n_splits()).map(&mut partial).collect()).collect()
    }

    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let partials = self.partials();
        let stride = self.head_dim + 4;
        let mut partial = vec![f32::NAN; self.n_head * self.max_splits * stride];
        let mut expected = Vec::new();
        for (head, splits) in partials.iter().enumerate() {
            for (split, state) in splits.iter().enumerate() {
                let slot = &mut partial[(head * self.max_splits + split) * stride..][..stride];
                slot[..self.head_dim].copy_from_slice(&state.acc);
                slot[self.head_dim..].copy_from_slice(&[state.max, state.sum, 0.0, 0.0]);
            }
            // A single split writes the output directly.
            let written = splits.len() == 1;
            let relative = 2.0 * (sum_error(splits.len()) + (3.0 + 2.0 * 12.0) * 2.0 * U);
            expected.extend(reference::attention_reduce(splits).into_iter().map(|want| {
                // |acc| is at most 9, and a sum is at least 0.5.
                if written { Expected::Untouched } else { value(want, 18.0 * relative) }
            }));
        }
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), &[], expected)?;
        let partial = floats(gpu, "partial", &partial)?;
        let none = input(gpu, "unused", &[])?;
        let n_rows = 1;
        let step = step(gpu, Step { n_rows, ..Step::default() })?;
        let batch = batch(gpu, &[Row { kv_len: self.kv_len as u32, ..Row::default() }])?;
        let dispatches = record(gpu, |recorder| {
            let (n_head, head_dim) = (self.n_head, self.head_dim);
            let kv = PagedKv {
                page_table: &none,
                slabs: std::slice::from_ref(&none),
                dtype: DType::F16,
                n_kv_head: n_head,
                head_dim,
            };
            let scratch = Scratch { buffer: &none, n_ctx: self.max_splits, max_rows: 1 };
            let rows = StepRows { step: (&step).into(), batch: Some((&batch).into()) };
            let (scale, soft_cap, window) = (1.0, None, self.window);
            let op = Attention { rows, qkv: &none, kv, n_head, scale, soft_cap, window, scratch, out: &out };
            attention_reduce::record(recorder, &op, self.max_splits, self.split_keys, &partial)
        })?;
        Ok(Prepared {
            case,
            reason: "f32 sums over splits, exp's 3 + 2|x| ulp",
            dispatches,
            work: Work { n_rows: 1, kv_len: self.kv_len as u32 },
            outputs: vec![(output, out)],
        })
    }
}

fn value(want: f32, tolerance: f64) -> Expected {
    Expected::Value { want: f64::from(want), tolerance }
}

impl fmt::Display for ReduceCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReduceCase { n_head, head_dim, max_splits, split_keys, kv_len, window } = self;
        write!(f, "{n_head}x{head_dim} splits={max_splits} of {split_keys} kv_len={kv_len}")?;
        window.map_or(Ok(()), |window| write!(f, " window={window}"))
    }
}
