//! Attention of one row over the cache: decode. On GPUs split over workgroups,
//! which [`super::attention_reduce`] merges.

use super::attention::{self, Attention, PER_THREAD_WORKGROUP_SIZE};
use super::attention_reduce;
use super::fragments::reduce;
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static ATTENTION_DECODE: Kernel = Kernel {
    name: "attention_decode",
    source: include_str!("../../shaders/attention_decode.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "partial")],
};

static ATTENTION_DECODE_SCORES: Kernel = Kernel {
    name: "attention_decode_scores",
    source: include_str!("../../shaders/attention_decode_scores.wgsl"),
    bindings: &[Binding::read_write(4, "scores")],
};

static ATTENTION_DECODE_VALUES: Kernel = Kernel {
    name: "attention_decode_values",
    source: include_str!("../../shaders/attention_decode_values.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read(5, "scores")],
};

const WORKGROUP_SIZE: u32 = 64;
/// Positions of one workgroup: four of its tiles, so that a short context needs
/// no merging.
const SPLIT_KEYS: usize = 256;

/// Longest padded head of the split kernel: its query (4 bytes an element)
/// shares the portable 16 KiB of workgroup memory with three arrays of a thread's
/// pack, vec4 and weight (52 bytes a thread).
pub const HEAD_DIM_MAX: usize = (16_384 - 52 * WORKGROUP_SIZE as usize) / 4 / 8 * 8;

/// Splits of a head that partial results need room for.
#[must_use]
pub fn max_splits(n_ctx: usize) -> usize {
    n_ctx.div_ceil(SPLIT_KEYS)
}

/// The variants for a strategy, a cache type, a padded head and a number of
/// slabs, in the order of their dispatch.
#[must_use]
pub fn variants(strategy: Strategy, dtype: DType, head_dim: usize, n_slabs: usize) -> Vec<Variant> {
    let variant = |kernel| attention::variant(kernel, strategy, dtype, head_dim, n_slabs);
    match strategy {
        Strategy::PerThread => [&ATTENTION_DECODE_SCORES, &ATTENTION_DECODE_VALUES]
            .map(|kernel| {
                let mut variant = variant(kernel);
                variant.constants.push(("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE));
                variant
            })
            .into(),
        Strategy::Workgroup | Strategy::Subgroup => {
            let mut split = variant(&ATTENTION_DECODE);
            split.constants.extend([("WORKGROUP_SIZE", WORKGROUP_SIZE), ("SPLIT_KEYS", SPLIT_KEYS as u32)]);
            split.fragments.push(reduce(strategy));
            vec![split, attention_reduce::variant(head_dim)]
        }
    }
}

/// Records `op` for one row.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &Attention<'_>) -> Result<()> {
    op.check(strategy);
    let kv = &op.kv;
    let variants = variants(strategy, kv.dtype, kv.head_dim, kv.slabs.len());
    let heads = Extent::Fixed(kv.n_head as u32);
    let scratch = op.scratch.buffer.into();
    match strategy {
        Strategy::PerThread => {
            let keys = Extent::PerKeys(PER_THREAD_WORKGROUP_SIZE);
            op.dispatch(recorder, &variants[0], &[scratch], Grid::Plane(heads, keys))?;
            let groups = (kv.n_head * kv.head_dim / 8).div_ceil(PER_THREAD_WORKGROUP_SIZE as usize);
            let grid = Grid::Plane(Extent::Fixed(groups as u32), Extent::Fixed(1));
            op.dispatch(recorder, &variants[1], &[op.out.into(), scratch], grid)
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            let grid = Grid::Plane(heads, Extent::PerKeys(SPLIT_KEYS as u32));
            op.dispatch(recorder, &variants[0], &[op.out.into(), scratch], grid)?;
            let max_splits = max_splits(op.scratch.n_ctx);
            attention_reduce::record(recorder, op, max_splits, SPLIT_KEYS, op.scratch.buffer)
        }
    }
}
