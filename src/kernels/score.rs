//! The log-probability of a token under each row of logits, without reading the logits back.
//!
//! A chunk produces its largest logit and the sum of the exponentials relative to it. The
//! merge rescales these sums. The same kernels count the tokens that are more probable
//! than the target.

use super::candidate::{Candidate, Op};
use super::fragments::{ORDER_KEY, SCORE, STEP, reduce};
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::pad_row;

static SCORE_CHUNKS: Kernel = Kernel {
    name: "score",
    source: include_str!("../../shaders/score.wgsl"),
    bindings: &[Binding::read_write(4, "partial")],
};

static SCORE_PER_THREAD: Kernel = Kernel {
    name: "score_per_thread",
    source: include_str!("../../shaders/score_per_thread.wgsl"),
    bindings: &[Binding::read_write(4, "partial")],
};

static SCORE_MERGE: Kernel = Kernel {
    name: "score_merge",
    source: include_str!("../../shaders/score_merge.wgsl"),
    bindings: &[
        Binding::read(4, "partial"),
        Binding::read_write(5, "logprobs"),
        Binding::read_write(6, "details"),
    ],
};

/// Logits per workgroup, divided by 4. It is small enough that the rows of a pass fill a
/// GPU (GPT-2 has 7 chunks per row), and large enough that one thread quickly merges the
/// partial results of a row.
const CHUNK4: u32 = 2048;

/// Threads per workgroup of the merge. There are few, so that the rows of a pass spread
/// over workgroups.
const MERGE_THREADS: u32 = 8;

/// The implementations. A per-thread workgroup is one vector of a software adapter at its
/// usual width.
pub static CANDIDATES: &[Candidate] = &[
    Candidate::new(
        Op::Score,
        "per_thread",
        Strategy::PerThread,
        const { &[&SCORE_PER_THREAD, &SCORE_MERGE] },
        &[("WORKGROUP_SIZE", 8), ("CHUNK4", CHUNK4)],
    )
    .preferred(1),
    workgroup("workgroup_256", Strategy::Workgroup).preferred(1),
    workgroup("subgroup_256", Strategy::Subgroup).preferred(1),
];

const fn workgroup(name: &'static str, strategy: Strategy) -> Candidate {
    let constants = &[("WORKGROUP_SIZE", 256), ("CHUNK4", CHUNK4)];
    Candidate::new(Op::Score, name, strategy, const { &[&SCORE_CHUNKS, &SCORE_MERGE] }, constants)
}

/// A model's rating of a token: one row of the shader's `details`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, serde::Serialize, serde::Deserialize,
)]
pub struct TokenScore {
    /// Natural log-probability of the token; minus infinity if its logit is.
    pub logprob: f32,
    /// Number of tokens that are more probable, or equally probable with a lower id. It
    /// is 0 for the most probable token.
    pub rank: u32,
    /// The most probable token; of equally probable ones, the lowest id.
    pub best: u32,
    /// Its natural log-probability.
    pub best_logprob: f32,
}

/// The shaders' `ScoreParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ScoreParams {
    /// Logits per row.
    pub n: u32,
    /// Length of a row divided by 4.
    pub stride4: u32,
    /// Partial results per row.
    pub n_partials: u32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// Returns the variants, in dispatch order.
#[must_use]
pub fn variants(candidate: &Candidate) -> [Variant; 2] {
    let mut fragments = vec![STEP, ORDER_KEY, SCORE];
    let merge = Variant {
        kernel: candidate.kernels[1],
        strategy: Strategy::PerThread,
        fragments: fragments.clone(),
        constants: vec![("WORKGROUP_SIZE", MERGE_THREADS)],
    };
    if candidate.strategy != Strategy::PerThread {
        fragments.push(reduce(candidate.strategy));
    }
    [candidate.variant(0, fragments, &[]), merge]
}

/// Returns the chunks of a row of `n` logits.
fn n_chunks(n: usize) -> usize {
    n.div_ceil(4 * CHUNK4 as usize)
}

/// Returns the bytes of the partial results of a row of `n` logits.
#[must_use]
pub fn partial_bytes(candidate: &Candidate, n: usize) -> u64 {
    16 * n_partials(candidate, n) as u64
}

fn n_partials(candidate: &Candidate, n: usize) -> usize {
    match candidate.strategy {
        Strategy::PerThread => n_chunks(n) * candidate.constant("WORKGROUP_SIZE") as usize,
        Strategy::Workgroup | Strategy::Subgroup => n_chunks(n),
    }
}

/// Scores of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct Score<'a> {
    /// The step: the number of rows, and the first of them in `targets` and in the results.
    pub step: BoundBuffer<'a>,
    /// Logits per row.
    pub n: usize,
    /// `[n_rows, pad_row(n)]`
    pub logits: &'a GpuBuffer,
    /// `[first_row + n_rows]`, u32; each id is below `n`.
    pub targets: &'a GpuBuffer,
    /// [`partial_bytes`] per row.
    pub partial: &'a GpuBuffer,
    /// `[first_row + n_rows]`, f32: NaN if a logit is NaN or plus infinity, or if all are
    /// minus infinity.
    pub logprobs: &'a GpuBuffer,
    /// `[first_row + n_rows]` of [`TokenScore`], with NaN as in `logprobs`.
    pub details: &'a GpuBuffer,
}

/// Records `op`.
///
/// The error of a log-probability comes from the errors that WGSL allows for exp and log,
/// and from sums of about sixty additions. It is below 6e-6 times the greater of 1 and
/// the log-probability's magnitude (the kernel's cases compute the bound). On Mesa's
/// lavapipe it is below 1e-6 times that number.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Score<'_>) -> Result<()> {
    let (n, stride) = (op.n, pad_row(op.n));
    assert!(op.logits.bytes() >= (stride * 4) as u64, "logits are too short");
    assert!(op.partial.bytes() >= partial_bytes(candidate, n), "the buffer of partial results is too small");
    let n_partials = n_partials(candidate, n) as u32;
    let params = ScoreParams { n: n as u32, stride4: (stride / 4) as u32, n_partials, unused: 0 };
    let [parts, merge] = variants(candidate);
    let inputs = [op.step, op.logits.into(), op.targets.into(), op.partial.into()];
    let grid = Grid::Plane(Extent::Fixed(n_chunks(n) as u32), Extent::PerRows(1));
    recorder.dispatch(&parts, &params, &inputs, grid)?;
    let buffers = [&inputs[..], &[op.logprobs.into(), op.details.into()]].concat();
    let grid = Grid::Plane(Extent::PerRows(MERGE_THREADS), Extent::Fixed(1));
    recorder.dispatch(&merge, &params, &buffers, grid)
}
