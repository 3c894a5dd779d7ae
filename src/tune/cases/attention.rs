//! Cases of attention.

use std::fmt;
use std::ops::Range;

use super::data::{Random, U, batch, encode, floats, input, pad_columns, record, rounded, step, sum_error};
use super::paged::{KvShape, Pages};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Recorder, Work};
use crate::kernels::{
    Attention, Candidate, Choices, Op, PAGE_SIZE, PagedKv, Row, Scratch, Step, StepRows, attention_decode,
    attention_prefill, attention_reduce,
};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};
use crate::tune::output::{Expected, Format, Output, Prepared};

/// Attention of rows over the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionCase {
    /// The cache.
    pub kv: KvShape,
    /// Position of the first row: keys of earlier chunks.
    pub position: usize,
    /// Rows. Those of a decode are sequences of their own: row i sees the positions
    /// behind the first i pages, the last of them for all rows `position`. Those of a
    /// packed pass are runs of 1, 2, 3 ... rows of sequences that begin alike, the last
    /// row of each at `position`.
    pub n_rows: usize,
    /// Factor of the queries: 1 spreads the weights over all keys, 40 leaves
    /// a few and scores of some hundreds.
    pub sharpness: f32,
}

impl AttentionCase {
    /// The positions that each row of a prefill sees.
    pub(super) fn chunk(&self) -> Vec<Range<usize>> {
        (0..self.n_rows).map(|row| 0..self.position + row + 1).collect()
    }

    /// The positions that each row of a decode sees.
    pub(super) fn batch(&self) -> Vec<Range<usize>> {
        let end = self.position + 1;
        (0..self.n_rows).map(|row| row.min(self.position / PAGE_SIZE) * PAGE_SIZE..end).collect()
    }

    /// The positions that each row of a packed pass sees, run by run.
    fn runs(&self) -> Vec<Vec<Range<usize>>> {
        let (mut left, mut runs) = (self.n_rows, Vec::new());
        while left > 0 {
            let len = left.min(runs.len() + 1).min(self.position + 1);
            left -= len;
            let first = self.position + 1 - len;
            let start = runs.len().min(first / PAGE_SIZE) * PAGE_SIZE;
            runs.push((first..=self.position).map(|position| start..position + 1).collect());
        }
        runs
    }

    /// The positions that each row of a packed pass sees.
    pub(super) fn packed(&self) -> Vec<Range<usize>> {
        self.runs().concat()
    }

    fn scale(&self) -> f32 {
        1.0 / (self.kv.head_dim as f32).sqrt()
    }

    pub(super) fn prepare_prefill(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionPrefill);
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_prefill::record(recorder, candidate, op)
        };
        self.prepare(gpu, candidate, case, &self.chunk(), None, record)
    }

    pub(super) fn prepare_packed(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionPrefill);
        let (mut rows, mut table) = (Vec::new(), Vec::new());
        for run in self.runs() {
            let first_page = table.len() as u32;
            table.extend(run[0].start / PAGE_SIZE..=self.position / PAGE_SIZE);
            rows.extend(run.iter().map(|seen| row(seen, first_page)));
        }
        let batch = (&batch(gpu, &rows)?, &table[..]);
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_prefill::record(recorder, candidate, op)
        };
        self.prepare(gpu, candidate, case, &self.packed(), Some(batch), record)
    }

    pub(super) fn prepare_decode(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionDecode);
        let seen = self.batch();
        let rows: Vec<Row> = seen.iter().map(|seen| row(seen, (seen.start / PAGE_SIZE) as u32)).collect();
        let table: Vec<usize> = (0..=self.position / PAGE_SIZE).collect();
        let batch = (&batch(gpu, &rows)?, &table[..]);
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_decode::record(recorder, candidate, op)
        };
        self.prepare(gpu, candidate, case, &seen, Some(batch), record)
    }

    /// `seen`: the positions that each row sees; `batch`: the rows, and the pages that
    /// the page table lists.
    fn prepare(
        &self,
        gpu: &Gpu,
        candidate: &Candidate,
        case: String,
        seen: &[Range<usize>],
        batch: Option<(&GpuBuffer, &[usize])>,
        record_op: impl FnOnce(&mut Recorder<'_>, &Attention<'_>) -> Result<()>,
    ) -> Result<Prepared> {
        let kv_len = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        // Longer than the cache and higher than the chunk: not all of the
        // scratch is in use.
        let (n_ctx, max_rows) = (self.position + self.n_rows + 300, self.n_rows + 3);
        let elems = Scratch::elems(candidate, n_ctx, max_rows, self.kv.n_head, pad_row(self.kv.head_dim));
        let (scratch_output, scratch) =
            Output::new(gpu, "scratch", Format::Float(DType::F32), &[], vec![Expected::Any; elems])?;
        let kv = self.kv;
        let inputs = Inputs::new(self, kv_len);
        // The new keys and values are read from the cache alone.
        let axis = Axis::grouped(kv.n_head, kv.head_dim);
        let mut qkv = pad_columns(&inputs.q, axis);
        let width = axis.padded_len();
        qkv = qkv.chunks(width).flat_map(|q| [q, &vec![f32::NAN; 2 * width]].concat()).collect();
        let qkv = floats(gpu, "qkv", &qkv)?;
        let entries = &inputs.pages.entries;
        let listed: Vec<u32> = match batch {
            Some((_, pages)) => pages.iter().map(|&page| entries[page]).collect(),
            None => entries.clone(),
        };
        let page_table = input(gpu, "page_table", bytemuck::cast_slice(&listed))?;
        let mut slabs = Vec::new();
        for slab in inputs.slabs(kv) {
            slabs.push(input(gpu, "slab", &encode(kv.dtype, &slab))?);
        }
        let mut expected = vec![Expected::exactly(0.0); self.n_rows * width];
        for (i, element) in inputs.expected(self, seen).into_iter().enumerate() {
            expected[i / axis.len() * width + axis.position(i % axis.len())] = element;
        }
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), &[], expected)?;
        let (n_rows, position) = (self.n_rows as u32, self.position as u32);
        let numbers = Step { n_rows, first_row: 0, position, kv_len: kv_len as u32 };
        let step = step(gpu, numbers)?;
        let dispatches = record(gpu, |recorder| {
            let op = Attention {
                rows: StepRows { step: (&step).into(), batch: batch.map(|(rows, _)| rows.into()) },
                qkv: &qkv,
                kv: PagedKv {
                    page_table: &page_table,
                    slabs: &slabs,
                    dtype: kv.dtype,
                    n_head: kv.n_head,
                    head_dim: pad_row(kv.head_dim),
                },
                scale: self.scale(),
                scratch: Scratch { buffer: &scratch, n_ctx, max_rows },
                out: &out,
            };
            record_op(recorder, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "f32 sums of head_dim terms (scores) and of kv_len terms (weights), exp's 3 + 2|x| ulp",
            dispatches,
            work: Work { n_rows: numbers.n_rows, kv_len: numbers.kv_len },
            outputs: vec![(output, out), (scratch_output, scratch)],
        })
    }
}

/// A row that sees these positions, from the page on that its table begins with.
fn row(seen: &Range<usize>, first_page: u32) -> Row {
    Row { position: seen.len() as u32 - 1, kv_len: seen.len() as u32, first_page, unused: 0 }
}

impl fmt::Display for AttentionCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows={} at {}", self.kv, self.n_rows, self.position)?;
        if self.sharpness != 1.0 {
            write!(f, " sharpness={}", self.sharpness)?;
        }
        Ok(())
    }
}

/// Queries, keys and values without padding, and where the cache has them.
struct Inputs {
    /// `[n_rows, n_head, head_dim]`
    q: Vec<f32>,
    /// `[n_head, kv_len, head_dim]`, rounded to the cache's type
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Pages,
}

impl Inputs {
    fn new(case: &AttentionCase, kv_len: usize) -> Self {
        let AttentionCase { kv, n_rows, sharpness, .. } = *case;
        let mut random = Random::new(6);
        let mut cached = || rounded(kv.dtype, random.uniform(kv.n_head * kv_len * kv.head_dim, 1.0));
        let (k, v) = (cached(), cached());
        let q = random.uniform(n_rows * kv.n_head * kv.head_dim, sharpness);
        Inputs { q, k, v, pages: Pages::scattered(kv, kv_len, &mut random) }
    }

    /// The slabs' elements. Where no position is, keys are large, for scores that
    /// would count (a NaN can vanish in a maximum), and values NaN.
    fn slabs(&self, kv: KvShape) -> Vec<Vec<f32>> {
        let run = kv.n_head * PAGE_SIZE * pad_row(kv.head_dim);
        let mut random = Random::new(8);
        let n_pages = self.pages.slab_elems() / (2 * run);
        let page = [random.uniform(run, 30_000.0), vec![f32::NAN; run]].concat();
        let mut slabs = vec![page.repeat(n_pages); kv.n_slabs];
        for (part, values) in [&self.k, &self.v].into_iter().enumerate() {
            let per_head = values.len() / kv.n_head;
            for (head, values) in values.chunks(per_head).enumerate() {
                for (position, values) in values.chunks(kv.head_dim).enumerate() {
                    let (slab, index) = self.pages.locate(part, position, head);
                    let run = &mut slabs[slab][index..][..pad_row(kv.head_dim)];
                    run.fill(0.0);
                    run[..kv.head_dim].copy_from_slice(values);
                }
            }
        }
        slabs
    }

    /// Value and tolerance of `[n_rows, n_head, head_dim]`.
    fn expected(&self, case: &AttentionCase, seen: &[Range<usize>]) -> Vec<Expected> {
        let AttentionCase { kv, .. } = *case;
        let (head_dim, width) = (kv.head_dim, kv.n_head * kv.head_dim);
        let run = self.k.len() / kv.n_head;
        let mut out = Vec::new();
        for (row, seen) in seen.iter().enumerate() {
            for head in 0..kv.n_head {
                let q = &self.q[row * width + head * head_dim..][..head_dim];
                let elems = head * run + seen.start * head_dim..head * run + seen.end * head_dim;
                let (k, v) = (&self.k[elems.clone()], &self.v[elems]);
                let want = reference::attention_prefill(q, k, v, head_dim, seen.len() - 1, case.scale());
                let relative = relative_error(q, k, case.scale());
                for (d, &want) in want.iter().enumerate() {
                    // Weights are relative to their sum: |v| at most counts.
                    let values = v.iter().skip(d).step_by(head_dim);
                    let largest = values.fold(0.0f64, |max, v| max.max(f64::from(v.abs())));
                    let want = f64::from(want);
                    let tolerance = largest * relative + 2.0 * U * want.abs();
                    out.push(Expected::Value { want, tolerance });
                }
            }
        }
        out
    }
}

/// Relative error of softmax weights, once in the weighted values and once in
/// their sum: from the scores' absolute error, from exp and from the sums.
fn relative_error(q: &[f32], k: &[f32], scale: f32) -> f64 {
    let scale = f64::from(scale);
    let (mut magnitude, mut low, mut high) = (0.0f64, f64::INFINITY, f64::NEG_INFINITY);
    for k in k.chunks(q.len()) {
        let terms = || q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k) * scale);
        let score: f64 = terms().sum();
        magnitude = magnitude.max(terms().map(f64::abs).sum());
        (low, high) = (low.min(score), high.max(score));
    }
    // Weights below e^-15 do not count; their exp may be as wrong as it likes.
    let spread = (high - low).min(15.0);
    let n_keys = k.len() / q.len();
    2.0 * (sum_error(q.len()) * magnitude + (3.0 + 2.0 * spread) * 2.0 * U + sum_error(n_keys))
}

/// Merge of the partial results of a decode.
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceCase {
    /// Heads.
    pub n_head: usize,
    /// Elements of a head, a multiple of 8.
    pub head_dim: usize,
    /// Room for splits.
    pub max_splits: usize,
    /// Positions in a split.
    pub split_keys: usize,
    /// Positions in the cache.
    pub kv_len: usize,
}

impl ReduceCase {
    /// `[n_head, n_splits]`: the splits that count.
    fn partials(&self) -> Vec<Vec<reference::Partial>> {
        let mut random = Random::new(7);
        let used = self.kv_len.div_ceil(self.split_keys);
        let mut partial = |_| reference::Partial {
            acc: random.uniform(self.head_dim, 9.0),
            max: random.uniform(1, 6.0)[0],
            sum: 1.0 + random.uniform(1, 0.5)[0],
        };
        (0..self.n_head).map(|_| (0..used).map(&mut partial).collect()).collect()
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
            // One split has written the output itself.
            let written = splits.len() == 1;
            let relative = 2.0 * (sum_error(splits.len()) + (3.0 + 2.0 * 12.0) * 2.0 * U);
            expected.extend(reference::attention_reduce(splits).into_iter().map(|want| {
                // acc is at most 9, a sum at least 0.5.
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
                n_head,
                head_dim,
            };
            let scratch = Scratch { buffer: &none, n_ctx: self.max_splits, max_rows: 1 };
            let rows = StepRows { step: (&step).into(), batch: Some((&batch).into()) };
            let op = Attention { rows, qkv: &none, kv, scale: 1.0, scratch, out: &out };
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
        let ReduceCase { n_head, head_dim, max_splits, split_keys, kv_len } = self;
        write!(f, "{n_head}x{head_dim} splits={max_splits} of {split_keys} kv_len={kv_len}")
    }
}
