//! Attention of single rows, each over its own sequence in the cache: decode. On
//! GPUs split over workgroups, which [`super::attention_reduce`] merges.

use super::attention::{self, Attention};
use super::attention_reduce;
use super::candidate::{Candidate, Needs, Op};
use super::fragments::reduce;
use super::step::Rows;
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static ATTENTION_DECODE: Kernel = Kernel {
    name: "attention_decode",
    source: include_str!("../../shaders/attention_decode.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "partial")],
};

static ATTENTION_DECODE_PER_THREAD: Kernel = Kernel {
    name: "attention_decode_per_thread",
    source: include_str!("../../shaders/attention_decode_per_thread.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "scores")],
};

/// Largest workgroup of the implementations that split.
const WORKGROUP_SIZE_MAX: usize = 64;

/// Longest padded head of the split kernel: its query (4 bytes an element)
/// shares the portable 16 KiB of workgroup memory with three arrays of a thread's
/// pack, vec4 and weight (52 bytes a thread).
pub const HEAD_DIM_MAX: usize = (16_384 - 52 * WORKGROUP_SIZE_MAX) / 4 / 8 * 8;

/// The implementations. A split of 256 positions is four tiles of a workgroup, so
/// that a short context needs no merging.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_wide", Needs::Int64),
    per_thread("per_thread", Needs::Floor),
    split("workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 256)]),
    split("workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 128)]),
    split("workgroup_64", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 64)]),
    split("subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 256)]),
    split("subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 128)]),
    split("subgroup_64", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64), ("SPLIT_KEYS", 64)]),
];

/// Workgroups of one vector of a software adapter at its usual width.
const fn per_thread(name: &'static str, needs: Needs) -> Candidate {
    Candidate {
        op: Op::AttentionDecode,
        name,
        strategy: Strategy::PerThread,
        needs,
        kernels: const { &[&ATTENTION_DECODE_PER_THREAD] },
        constants: &[("WORKGROUP_SIZE", 8)],
    }
}

const fn split(
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    let needs = Needs::of(strategy);
    Candidate {
        op: Op::AttentionDecode,
        name,
        strategy,
        needs,
        kernels: const { &[&ATTENTION_DECODE] },
        constants,
    }
}

/// Splits of a head that partial results need room for.
#[must_use]
pub fn max_splits(candidate: &Candidate, n_ctx: usize) -> usize {
    match candidate.strategy {
        Strategy::PerThread => 0,
        Strategy::Workgroup | Strategy::Subgroup => n_ctx.div_ceil(candidate.constant("SPLIT_KEYS") as usize),
    }
}

/// The variants for a cache type, a padded head and a number of slabs, in the
/// order of their dispatch.
#[must_use]
pub fn variants(candidate: &Candidate, dtype: DType, head_dim: usize, n_slabs: usize) -> Vec<Variant> {
    let mut variant = attention::variant(candidate, 0, Rows::Batch, dtype, head_dim, n_slabs);
    match candidate.strategy {
        Strategy::PerThread => vec![variant],
        Strategy::Workgroup | Strategy::Subgroup => {
            variant.fragments.push(reduce(candidate.strategy));
            vec![variant, attention_reduce::variant(head_dim)]
        }
    }
}

/// Records `op` for the rows of a batch.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Attention<'_>) -> Result<()> {
    op.check(candidate);
    let kv = &op.kv;
    let variants = variants(candidate, kv.dtype, kv.head_dim, kv.slabs.len());
    let heads = Extent::Fixed(kv.n_head as u32);
    let outputs = [op.out.into(), op.scratch.buffer.into()];
    match candidate.strategy {
        Strategy::PerThread => {
            op.dispatch(recorder, &variants[0], 0, &outputs, Grid::Plane(heads, Extent::PerRows(1)))
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            let split_keys = candidate.constant("SPLIT_KEYS");
            let max_splits = max_splits(candidate, op.scratch.n_ctx);
            let grid = Grid::Volume(heads, Extent::PerKeys(split_keys), Extent::PerRows(1));
            op.dispatch(recorder, &variants[0], max_splits, &outputs, grid)?;
            attention_reduce::record(recorder, op, max_splits, split_keys as usize, op.scratch.buffer)
        }
    }
}
