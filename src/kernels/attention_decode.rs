//! Attention of one row over the cache: the splits; [`super::attention_reduce`]
//! merges them.

use super::fragments::{ATTENTION, KV_LAYOUT, SOFTMAX, STEP, kv_read, pack, reduce};
use super::paged::PAGE_SIZE;
use super::{Attention, attention_reduce};
use crate::error::Result;
use crate::gpu::{Binding, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static ATTENTION_DECODE: Kernel = Kernel {
    name: "attention_decode",
    source: include_str!("../../shaders/attention_decode.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read_write(5, "partial")],
};

static ATTENTION_DECODE_PER_THREAD: Kernel = Kernel {
    name: "attention_decode_per_thread",
    source: include_str!("../../shaders/attention_decode_per_thread.wgsl"),
    bindings: &[Binding::read_write(4, "partial")],
};

const WORKGROUP_SIZE: u32 = 64;
/// Positions of one workgroup: four of its tiles, so that a short context needs
/// no merging.
const SPLIT_KEYS: usize = 256;
/// One vector of a software adapter at its usual width.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;
/// Splits of a head, per thread: with 12 heads enough vectors for any core count
/// that software adapters meet.
const PER_THREAD_SPLITS: usize = 32;

/// Splits of a head that partial results need room for.
#[must_use]
pub fn max_splits(strategy: Strategy, n_positions: usize) -> usize {
    match strategy {
        Strategy::PerThread => PER_THREAD_SPLITS,
        Strategy::Workgroup | Strategy::Subgroup => n_positions.div_ceil(SPLIT_KEYS),
    }
}

/// Elements of the partial results: `[n_head, max_splits, head_dim + 4]`.
#[must_use]
pub fn partial_elems(strategy: Strategy, n_positions: usize, n_head: usize, head_dim: usize) -> usize {
    n_head * max_splits(strategy, n_positions) * (head_dim + 4)
}

/// The variant for a strategy, a cache type, a padded head and a number of slabs.
#[must_use]
pub fn variant(strategy: Strategy, dtype: DType, head_dim: usize, n_slabs: usize) -> Variant {
    let mut fragments = vec![STEP, pack(dtype), SOFTMAX, KV_LAYOUT, kv_read(n_slabs), ATTENTION];
    let mut constants = vec![("HEAD_DIM", head_dim as u32), ("PAGE_SIZE", PAGE_SIZE as u32)];
    let kernel = match strategy {
        Strategy::PerThread => {
            constants.push(("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE));
            &ATTENTION_DECODE_PER_THREAD
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            constants.push(("WORKGROUP_SIZE", WORKGROUP_SIZE));
            constants.push(("SPLIT_KEYS", SPLIT_KEYS as u32));
            fragments.push(reduce(strategy));
            &ATTENTION_DECODE
        }
    };
    Variant { kernel, strategy, fragments, constants }
}

/// Records `op` for one row, and the merge of its splits.
///
/// `partial` holds [`partial_elems`] f32; `n_positions` is the longest context.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    strategy: Strategy,
    op: &Attention<'_>,
    n_positions: usize,
    partial: &GpuBuffer,
) -> Result<()> {
    let kv = &op.kv;
    let needed = partial_elems(strategy, n_positions, kv.n_head, kv.head_dim) * 4;
    assert!(partial.bytes() >= needed as u64, "room for partial results");
    let max_splits = max_splits(strategy, n_positions);
    let mut buffers = vec![op.step, op.qkv.into(), kv.page_table.into()];
    let heads = Extent::Fixed(kv.n_head as u32);
    let (grid, split_keys) = match strategy {
        Strategy::PerThread => {
            let groups = (max_splits as u32).div_ceil(PER_THREAD_WORKGROUP_SIZE);
            (Grid::Plane(heads, Extent::Fixed(groups)), 0)
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            buffers.push(op.out.into());
            (Grid::Plane(heads, Extent::PerKeys(SPLIT_KEYS as u32)), SPLIT_KEYS)
        }
    };
    buffers.push(partial.into());
    buffers.extend(kv.read_bindings());
    let variant = variant(strategy, kv.dtype, kv.head_dim, kv.slabs.len());
    recorder.dispatch(&variant, &op.params(max_splits), &buffers, grid)?;
    attention_reduce::record(recorder, op, max_splits, split_keys, partial)
}
