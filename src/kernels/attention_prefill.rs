//! Causal attention of many rows: prefill, rows of several sequences together, and decode
//! if results must not depend on the number of rows.
//!
//! The per-thread implementation consists of three kernels (scores, weights, values),
//! because lavapipe's compiler unrolls private arrays. A single kernel took 6 to 8
//! seconds to compile there; the three take a few tenths of a second. Their scratch
//! buffer is `[n_head, chunk, n_ctx]`, so the chunk limits its size. As in gemm, a thread
//! has a block of sums, so each load serves several of them.
//! several of them.

use super::attention::{self, Attention, AttentionForm};
use super::candidate::{Candidate, Loads, Op};
use super::fragments::{DOT4, PREFILL_ITEMS};
use super::paged::PAGE_SIZE;
use super::step::Rows;
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};

static ATTENTION_PREFILL: Kernel = Kernel {
    name: "attention_prefill",
    source: include_str!("../../shaders/attention_prefill.wgsl"),
    bindings: &[Binding::read_write(4, "out")],
};

static ATTENTION_PREFILL_SCORES: Kernel = Kernel {
    name: "attention_prefill_scores",
    source: include_str!("../../shaders/attention_prefill_scores.wgsl"),
    bindings: &[Binding::read_write(4, "scores")],
};

static ATTENTION_PREFILL_WEIGHTS: Kernel = Kernel {
    name: "attention_prefill_weights",
    source: include_str!("../../shaders/attention_prefill_weights.wgsl"),
    bindings: &[Binding::read_write(4, "scores")],
};

static ATTENTION_PREFILL_VALUES: Kernel = Kernel {
    name: "attention_prefill_values",
    source: include_str!("../../shaders/attention_prefill_values.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read(5, "weights")],
};

/// The implementations.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_wide").loading(Loads::Wide).preferred(2),
    per_thread("per_thread").preferred(1),
    Candidate::new(
        Op::AttentionPrefill,
        "tile_16x32",
        Strategy::Workgroup,
        const { &[&ATTENTION_PREFILL] },
        &[("ITEMS", 16)],
    )
    .preferred(1),
];

/// A workgroup is one vector of a software adapter at its usual width.
const fn per_thread(name: &'static str) -> Candidate {
    let kernels =
        const { &[&ATTENTION_PREFILL_SCORES, &ATTENTION_PREFILL_WEIGHTS, &ATTENTION_PREFILL_VALUES] };
    let constants = &[("WORKGROUP_SIZE", 8), ("ITEMS", 4), ("KEYS", 8)];
    Candidate::new(Op::AttentionPrefill, name, Strategy::PerThread, kernels, constants)
}

/// Returns the variants for a kind of rows and a form, in dispatch order.
#[must_use]
pub fn variants(candidate: &Candidate, rows: Rows, form: AttentionForm) -> Vec<Variant> {
    let per_thread = candidate.strategy == Strategy::PerThread;
    let variant = |index| {
        let kv_by = if per_thread && index == 0 { 4 } else { 8 };
        let mut variant = attention::variant(candidate, index, rows, form, kv_by);
        if per_thread {
            variant.fragments.extend([DOT4, PREFILL_ITEMS]);
        }
        variant
    };
    (0..candidate.kernels.len()).map(variant).collect()
}

/// Returns the maximum positions that the rows of a workgroup of the per-thread kernels
/// see, counted from the start of a block.
fn reach(candidate: &Candidate, window: Option<usize>) -> usize {
    let slack = candidate.constant("ITEMS") + candidate.constant("KEYS") - 2;
    window.map_or(usize::MAX, |window| window.saturating_add(slack as usize))
}

/// Returns the number of positions per item for which the per-thread kernels need space
/// for scores.
pub(super) fn score_keys(candidate: &Candidate, n_ctx: usize, window: Option<usize>) -> usize {
    n_ctx.min(reach(candidate, window)).next_multiple_of(PAGE_SIZE)
}

/// Records `op` for the rows of a chunk or a batch. In a batch, rows of the same sequence
/// should be adjacent, because a workgroup loads keys once for each sequence among its
/// rows. The sums of a row are the same in a chunk and in a batch.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Attention<'_>) -> Result<()> {
    op.check(candidate);
    let variants = variants(candidate, op.rows.kind(), op.form());
    let kv_heads = Extent::Fixed(op.kv.n_kv_head as u32);
    let items = |group| Extent::PerItems { per_row: op.shape().group() as u32, group };
    match candidate.strategy {
        Strategy::PerThread => {
            let size = candidate.constant("WORKGROUP_SIZE");
            let blocks = items(candidate.constant("ITEMS"));
            let reach = u32::try_from(reach(candidate, op.window)).unwrap_or(u32::MAX);
            let keys = Extent::PerKeys { keys: candidate.constant("KEYS") * size, reach };
            let space = [0, score_keys(candidate, op.scratch.n_ctx, op.window)];
            let scores = op.scratch.buffer.into();
            op.dispatch(recorder, &variants[0], space, &[scores], Grid::Volume(blocks, keys, kv_heads))?;
            op.dispatch(recorder, &variants[1], space, &[scores], Grid::Plane(items(size), kv_heads))?;
            let packs = Extent::Fixed((op.kv.head_dim as u32 / 8).div_ceil(size));
            let grid = Grid::Volume(blocks, packs, kv_heads);
            op.dispatch(recorder, &variants[2], space, &[op.out.into(), scores], grid)
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            let grid = Grid::Plane(items(candidate.constant("ITEMS")), kv_heads);
            op.dispatch(recorder, &variants[0], [0, 0], &[op.out.into()], grid)
        }
    }
}
