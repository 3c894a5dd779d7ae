//! Decode attention: each row attends to its own sequence in the cache. The work is split
//! over workgroups, and [`super::attention_reduce`] merges their results.

use super::attention::{self, Attention, AttentionForm, AttentionShape};
use super::attention_reduce;
use super::candidate::{Candidate, Loads, Op};
use super::fragments::{DOT4, reduce};
use super::paged::PAGE_SIZE;
use super::step::Rows;
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};

static ATTENTION_DECODE: Kernel = Kernel {
    name: "attention_decode",
    source: include_str!("../../shaders/attention_decode.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "partial")],
};

static ATTENTION_DECODE_PER_THREAD: Kernel = Kernel {
    name: "attention_decode_per_thread",
    source: include_str!("../../shaders/attention_decode_per_thread.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "partial")],
};

/// Largest workgroup of the GPU candidates.
const WORKGROUP_SIZE_MAX: usize = 64;

/// Maximum query elements, 4 bytes each, in a workgroup of the kernel for GPUs. They
/// share the portable 16 KiB of workgroup memory with three arrays of one pack and two
/// vec4 per thread, which take 64 bytes per thread.
const QUERY_ELEMS_MAX: usize = (16_384 - 64 * WORKGROUP_SIZE_MAX) / 4;

/// Longest padded head that the kernel for GPUs supports, in elements.
pub const HEAD_DIM_MAX: usize = QUERY_ELEMS_MAX / 8 * 8;

/// Maximum query heads that a workgroup processes: the components of a vec4.
const HEADS_MAX: usize = 4;

/// The implementations. A split of 256 positions is four tiles of a workgroup. A short
/// context therefore needs no merge.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_wide").loading(Loads::Wide).preferred(2),
    per_thread("per_thread").preferred(1),
    split("workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 256)]).preferred(1),
    split("workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 128)]),
    split("workgroup_64", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 64)]),
    split("subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 256)]).preferred(1),
    split("subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 128)]),
    split("subgroup_64", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 64)]),
];

/// A workgroup is one vector of a software adapter at its usual width. A split has as
/// many positions as there are scores in 12 KiB of workgroup memory, because a merge
/// costs a dispatch: 40 us on such an adapter.
const fn per_thread(name: &'static str) -> Candidate {
    let kernels = const { &[&ATTENTION_DECODE_PER_THREAD] };
    let constants = &[("WORKGROUP_SIZE", 8), ("SCORES", 3072)];
    Candidate::new(Op::AttentionDecode, name, Strategy::PerThread, kernels, constants)
}

const fn split(
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate::new(Op::AttentionDecode, name, strategy, const { &[&ATTENTION_DECODE] }, constants)
}

/// Returns the maximum positions that the splits cover. The first split begins at a page
/// boundary.
fn reach(window: Option<usize>) -> usize {
    window.map_or(usize::MAX, |window| window.saturating_add(PAGE_SIZE - 1))
}

/// Returns the number of splits per head for which partial results need space.
#[must_use]
pub fn max_splits(candidate: &Candidate, n_ctx: usize, shape: AttentionShape) -> usize {
    let heads = heads_at_once(candidate, shape.group(), shape.head_dim);
    n_ctx.min(reach(shape.window)).div_ceil(split_keys(candidate, heads))
}

/// Returns the number of query heads of a group that one workgroup processes. The group
/// is divided into as few workgroups as possible, of equal size.
fn heads_at_once(candidate: &Candidate, group: usize, head_dim: usize) -> usize {
    let most = match candidate.strategy {
        Strategy::PerThread => HEADS_MAX,
        Strategy::Workgroup | Strategy::Subgroup => (QUERY_ELEMS_MAX / head_dim).clamp(1, HEADS_MAX),
    };
    group.div_ceil(group.div_ceil(most))
}

/// Returns the maximum positions of a split if a workgroup processes `heads` query heads.
fn split_keys(candidate: &Candidate, heads: usize) -> usize {
    match candidate.strategy {
        Strategy::PerThread => candidate.constant("SCORES") as usize / heads / PAGE_SIZE * PAGE_SIZE,
        Strategy::Workgroup | Strategy::Subgroup => candidate.constant("SPLIT_KEYS") as usize,
    }
}

/// Returns the variants for a form, in dispatch order.
#[must_use]
pub fn variants(candidate: &Candidate, form: AttentionForm) -> Vec<Variant> {
    let mut variant = attention::variant(candidate, 0, Rows::Batch, form, 8);
    let heads = heads_at_once(candidate, form.group, form.head_dim);
    variant.constants.push(("HEADS", heads as u32));
    match candidate.strategy {
        Strategy::PerThread => {
            variant.constants.push(("SPLIT_KEYS", split_keys(candidate, heads) as u32));
            variant.fragments.push(DOT4);
        }
        Strategy::Workgroup | Strategy::Subgroup => variant.fragments.push(reduce(candidate.strategy)),
    }
    vec![variant, attention_reduce::variant(form.head_dim)]
}

/// Records `op` for the rows of a batch.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Attention<'_>) -> Result<()> {
    op.check(candidate);
    let shape = op.shape();
    let at_once = heads_at_once(candidate, shape.group(), shape.head_dim);
    let split_keys = split_keys(candidate, at_once);
    let max_splits = max_splits(candidate, op.scratch.n_ctx, shape);
    let heads = Extent::Fixed((shape.n_kv_head * shape.group().div_ceil(at_once)) as u32);
    let reach = u32::try_from(reach(op.window)).unwrap_or(u32::MAX);
    let splits = Extent::PerKeys { keys: split_keys as u32, reach };
    let variants = variants(candidate, op.form());
    let outputs = [op.out.into(), op.scratch.buffer.into()];
    let grid = Grid::Volume(heads, splits, Extent::PerRows(1));
    op.dispatch(recorder, &variants[0], [max_splits, 0], &outputs, grid)?;
    if max_splits < 2 {
        return Ok(());
    }
    attention_reduce::record(recorder, op, max_splits, split_keys, op.scratch.buffer)
}
