//! Cases of attention.

use std::fmt;
use std::ops::Range;

use super::activation::SOFT_CAP_ERROR;
use super::data::{Random, U, batch, encode, floats, input, pad_columns, record, rounded, step, sum_error};
use super::paged::{KvShape, Pages};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Recorder, Work};
use crate::kernels::{
    Attention, AttentionShape, Candidate, Choices, Op, PAGE_SIZE, PagedKv, Row, Scratch, Step, StepRows,
    attention_decode, attention_prefill,
};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// Attention of some rows over the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionCase {
    /// Shape of the cache.
    pub kv: KvShape,
    /// Position of the first row. The keys before it belong to earlier chunks.
    pub position: usize,
    /// Number of rows. In a decode, each row is a separate sequence, and row i sees the
    /// positions from page i up to `position`. In a packed pass, run i has i + 1 rows of
    /// one sequence. It begins at page i, and its last row is at `position`.
    pub n_rows: usize,
    /// Factor of the queries. 1 spreads the weights over all keys. 40 concentrates them
    /// on a few keys and gives scores of several hundred.
    pub sharpness: f32,
    /// Number of positions that a row attends to.
    pub window: Option<usize>,
    /// Soft bound of the scores.
    pub soft_cap: Option<f32>,
}

impl AttentionCase {
    /// Creates a case of random rows without a window or a cap.
    #[must_use]
    pub fn plain(kv: KvShape, position: usize, n_rows: usize) -> Self {
        AttentionCase { kv, position, n_rows, sharpness: 1.0, window: None, soft_cap: None }
    }

    /// Returns the positions of a sequence that are inside the window.
    pub(super) fn visible(&self, sequence: &Range<usize>) -> Range<usize> {
        sequence.start.max(sequence.end.saturating_sub(self.window.unwrap_or(usize::MAX)))..sequence.end
    }

    /// Returns the sequence's positions up to each row of a prefill.
    pub(super) fn chunk(&self) -> Vec<Range<usize>> {
        (0..self.n_rows).map(|row| 0..self.position + row + 1).collect()
    }

    /// Returns the positions of its sequence up to each row of a decode.
    pub(super) fn batch(&self) -> Vec<Range<usize>> {
        let end = self.position + 1;
        (0..self.n_rows).map(|row| row.min(self.position / PAGE_SIZE) * PAGE_SIZE..end).collect()
    }

    /// Returns the positions of its sequence up to each row of a packed pass, grouped by
    /// run.
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

    /// Returns the positions of its sequence up to each row of a packed pass.
    pub(super) fn packed(&self) -> Vec<Range<usize>> {
        self.runs().concat()
    }

    fn twin(&self) -> reference::Attention {
        let KvShape { n_head, n_kv_head, head_dim, .. } = self.kv;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let AttentionCase { soft_cap, window, .. } = *self;
        reference::Attention { n_head, n_kv_head, head_dim, scale, soft_cap, window }
    }

    /// Yields `pages` for the page table of rows that see positions from `first` on. A
    /// page before the first visible one no longer belongs to the sequence and becomes
    /// `None`.
    fn listed(&self, pages: Range<usize>, first: usize) -> impl Iterator<Item = Option<usize>> {
        pages.map(move |page| (page >= first / PAGE_SIZE).then_some(page))
    }

    pub(super) fn prepare_prefill(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionPrefill);
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_prefill::record(recorder, candidate, op)
        };
        let seen = self.chunk();
        let n_pages = seen[self.n_rows - 1].end.div_ceil(PAGE_SIZE);
        let table: Vec<_> = self.listed(0..n_pages, self.visible(&seen[0]).start).collect();
        self.prepare(gpu, candidate, case, (&seen, None, &table), record)
    }

    pub(super) fn prepare_packed(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionPrefill);
        let (mut rows, mut table) = (Vec::new(), Vec::new());
        for run in self.runs() {
            let first_page = table.len() as u32;
            let pages = run[0].start / PAGE_SIZE..self.position / PAGE_SIZE + 1;
            table.extend(self.listed(pages, self.visible(&run[0]).start));
            rows.extend(run.iter().map(|seen| row(seen, first_page)));
        }
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_prefill::record(recorder, candidate, op)
        };
        self.prepare(gpu, candidate, case, (&self.packed(), Some(&batch(gpu, &rows)?), &table), record)
    }

    pub(super) fn prepare_decode(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let candidate = choices.get(Op::AttentionDecode);
        let seen = self.batch();
        let rows: Vec<Row> = seen.iter().map(|seen| row(seen, (seen.start / PAGE_SIZE) as u32)).collect();
        let pages = 0..self.position / PAGE_SIZE + 1;
        let table: Vec<_> = self.listed(pages, self.visible(&seen[0]).start).collect();
        let record = |recorder: &mut Recorder<'_>, op: &Attention<'_>| {
            attention_decode::record(recorder, candidate, op)
        };
        self.prepare(gpu, candidate, case, (&seen, Some(&batch(gpu, &rows)?), &table), record)
    }

    /// `sequences` are the positions up to each row. `batch` contains the rows if they
    /// are not a chunk. `table` lists the pages in the page table.
    fn prepare(
        &self,
        gpu: &Gpu,
        candidate: &Candidate,
        case: String,
        (sequences, batch, table): (&[Range<usize>], Option<&GpuBuffer>, &[Option<usize>]),
        record_op: impl FnOnce(&mut Recorder<'_>, &Attention<'_>) -> Result<()>,
    ) -> Result<Prepared> {
        let seen: Vec<_> = sequences.iter().map(|sequence| self.visible(sequence)).collect();
        let kv_len = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        // The scratch has space for more positions and rows than the case uses.
        let (n_ctx, max_rows) = (self.position + self.n_rows + 300, self.n_rows + 3);
        let (n_head, head_dim) = (self.kv.n_head, pad_row(self.kv.head_dim));
        let (n_kv_head, window) = (self.kv.n_kv_head, self.window);
        let shape = AttentionShape { n_head, n_kv_head, head_dim, window };
        let elems = Scratch::elems(candidate, n_ctx, max_rows, shape);
        let (scratch_output, scratch) =
            Output::new(gpu, "scratch", Format::Float(DType::F32), &[], vec![Expected::Any; elems])?;
        let kv = self.kv;
        let inputs = Inputs::new(self, kv_len);
        // The kernel must read the new keys and values only from the cache.
        let axis = Axis::grouped(kv.n_head, kv.head_dim);
        let mut qkv = pad_columns(&inputs.q, axis);
        let width = axis.padded_len();
        let kv_width = 2 * kv.n_kv_head * head_dim;
        qkv = qkv.chunks(width).flat_map(|q| [q, &vec![f32::NAN; kv_width]].concat()).collect();
        let qkv = floats(gpu, "qkv", &qkv)?;
        let entries = &inputs.pages.entries;
        let listed: Vec<u32> = table.iter().map(|page| page.map_or(0, |page| entries[page])).collect();
        let page_table = input(gpu, "page_table", bytemuck::cast_slice(&listed))?;
        let mut slabs = Vec::new();
        for slab in inputs.slabs(kv, first) {
            slabs.push(input(gpu, "slab", &encode(kv.dtype, &slab))?);
        }
        let mut expected = vec![Expected::exactly(0.0); self.n_rows * width];
        for (i, element) in inputs.expected(self, sequences).into_iter().enumerate() {
            expected[i / axis.len() * width + axis.position(i % axis.len())] = element;
        }
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), &[], expected)?;
        let (n_rows, position) = (self.n_rows as u32, self.position as u32);
        let numbers = Step { n_rows, first_row: 0, position, kv_len: kv_len as u32 };
        let step = step(gpu, numbers)?;
        let dispatches = record(gpu, |recorder| {
            let op = Attention {
                rows: StepRows { step: (&step).into(), batch: batch.map(Into::into) },
                qkv: &qkv,
                kv: PagedKv {
                    page_table: &page_table,
                    slabs: &slabs,
                    dtype: kv.dtype,
                    n_kv_head: kv.n_kv_head,
                    head_dim,
                },
                n_head,
                scale: self.twin().scale,
                soft_cap: self.soft_cap,
                window: self.window,
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

/// Returns a row that sees these positions. Its pages begin at index `first_page` of the
/// page table.
fn row(seen: &Range<usize>, first_page: u32) -> Row {
    Row { position: seen.len() as u32 - 1, kv_len: seen.len() as u32, first_page, unused: 0 }
}

impl fmt::Display for AttentionCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows={} at {}", self.kv, self.n_rows, self.position)?;
        if self.sharpness != 1.0 {
            write!(f, " sharpness={}", self.sharpness)?;
        }
        if let Some(window) = self.window {
            write!(f, " window={window}")?;
        }
        self.soft_cap.map_or(Ok(()), |cap| write!(f, " cap={cap}"))
    }
}

/// Queries, keys and values without padding, and their places in the cache.
struct Inputs {
    /// `[n_rows, n_head, head_dim]`
    q: Vec<f32>,
    /// `[n_kv_head, kv_len, head_dim]`, rounded to the cache's type
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Pages,
}

impl Inputs {
    fn new(case: &AttentionCase, kv_len: usize) -> Self {
        let AttentionCase { kv, n_rows, sharpness, .. } = *case;
        let mut random = Random::new(6);
        let mut cached = || rounded(kv.dtype, random.uniform(kv.n_kv_head * kv_len * kv.head_dim, 1.0));
        let (k, v) = (cached(), cached());
        let q = random.uniform(n_rows * kv.n_head * kv.head_dim, sharpness);
        Inputs { q, k, v, pages: Pages::scattered(kv, kv_len, &mut random) }
    }

    /// Returns the elements of the slabs. No row sees positions before `first` or unused
    /// pages. They hold NaN values and large keys. A large key would give a score that
    /// counts, whereas a NaN key can vanish in a maximum. The first page is all NaN. Its
    /// entry stands for pages that fell out of a window.
    fn slabs(&self, kv: KvShape, first: usize) -> Vec<Vec<f32>> {
        let run = kv.n_kv_head * PAGE_SIZE * pad_row(kv.head_dim);
        let mut random = Random::new(8);
        let n_pages = self.pages.slab_elems() / (2 * run);
        let page = [random.uniform(run, 30_000.0), vec![f32::NAN; run]].concat();
        let mut slabs = vec![page.repeat(n_pages); kv.n_slabs];
        slabs[0][..2 * run].fill(f32::NAN);
        for (part, values) in [&self.k, &self.v].into_iter().enumerate() {
            let per_head = values.len() / kv.n_kv_head;
            for (head, values) in values.chunks(per_head).enumerate() {
                for (position, values) in values.chunks(kv.head_dim).enumerate().skip(first) {
                    let (slab, index) = self.pages.locate(part, position, head);
                    let run = &mut slabs[slab][index..][..pad_row(kv.head_dim)];
                    run.fill(0.0);
                    run[..kv.head_dim].copy_from_slice(values);
                }
            }
        }
        slabs
    }

    /// Returns value and tolerance of `[n_rows, n_head, head_dim]`.
    fn expected(&self, case: &AttentionCase, sequences: &[Range<usize>]) -> Vec<Expected> {
        let (kv, twin) = (case.kv, case.twin());
        let (head_dim, width) = (kv.head_dim, kv.n_head * kv.head_dim);
        let run = self.k.len() / kv.n_kv_head;
        let one_head = reference::Attention { n_head: 1, n_kv_head: 1, ..twin };
        let mut out = Vec::new();
        for (row, sequence) in sequences.iter().enumerate() {
            let seen = case.visible(sequence);
            let row = &self.q[row * width..][..width];
            let part = |values: &[f32]| -> Vec<f32> {
                let heads = values.chunks(run);
                heads
                    .flat_map(|head| head[sequence.start * head_dim..sequence.end * head_dim].to_vec())
                    .collect()
            };
            let want = reference::attention_decode(&twin, row, &part(&self.k), &part(&self.v));
            for (head, (q, want)) in row.chunks(head_dim).zip(want.chunks(head_dim)).enumerate() {
                let at = head / (kv.n_head / kv.n_kv_head) * run;
                let elems = at + seen.start * head_dim..at + seen.end * head_dim;
                let (k, v) = (&self.k[elems.clone()], &self.v[elems]);
                let relative = relative_error(&one_head, q, k);
                for (d, &want) in want.iter().enumerate() {
                    // The weights are normalized by their sum, so the error is
                    // proportional to at most the largest |v|.
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

/// Returns the relative error of the softmax weights. It counts twice: in the weighted
/// values and in their sum. Its causes are the scores' absolute error, exp, the sums and
/// the soft cap.
fn relative_error(twin: &reference::Attention, q: &[f32], k: &[f32]) -> f64 {
    let scale = f64::from(twin.scale);
    let (mut magnitude, mut low, mut high) = (0.0f64, f64::INFINITY, f64::NEG_INFINITY);
    for k in k.chunks(q.len()) {
        let terms = q.iter().zip(k).map(|(q, k)| (f64::from(*q) * f64::from(*k) * scale).abs());
        magnitude = magnitude.max(terms.sum());
        let score = twin.score(q, k);
        (low, high) = (low.min(score), high.max(score));
    }
    // Weights below e^-15 do not matter, regardless of the error of their exp.
    let spread = (high - low).min(15.0);
    let n_keys = k.len() / q.len();
    let cap = twin.soft_cap.map_or(0.0, |_| SOFT_CAP_ERROR * high.abs().max(low.abs()));
    2.0 * (sum_error(q.len()) * magnitude + cap + (3.0 + 2.0 * spread) * 2.0 * U + sum_error(n_keys))
}
