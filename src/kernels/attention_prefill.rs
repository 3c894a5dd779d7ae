//! Causal attention of many rows: prefill, and decode where results must not
//! depend on the number of rows.

use super::Attention;
use super::fragments::{ATTENTION, KV_LAYOUT, SOFTMAX, STEP, kv_read, pack};
use super::paged::PAGE_SIZE;
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, Extent, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

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

static ATTENTION_PREFILL_VALUES: Kernel = Kernel {
    name: "attention_prefill_values",
    source: include_str!("../../shaders/attention_prefill_values.wgsl"),
    bindings: &[Binding::read_write(4, "out"), Binding::read(5, "scores")],
};

/// Rows of a workgroup.
const ROWS: u32 = 16;
/// One vector of a software adapter at its usual width.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;
/// Positions of a thread of the scores kernel.
const KEYS: u32 = 4;

/// The variants for a strategy, a cache type, a padded head and a number of
/// slabs, in the order of their dispatch.
#[must_use]
pub fn variants(strategy: Strategy, dtype: DType, head_dim: usize, n_slabs: usize) -> Vec<Variant> {
    let fragments = vec![STEP, pack(dtype), SOFTMAX, KV_LAYOUT, kv_read(n_slabs), ATTENTION];
    let mut constants = vec![("HEAD_DIM", head_dim as u32), ("PAGE_SIZE", PAGE_SIZE as u32)];
    match strategy {
        Strategy::PerThread => [&ATTENTION_PREFILL_SCORES, &ATTENTION_PREFILL_VALUES]
            .map(|kernel| {
                let mut constants = constants.clone();
                constants.push(("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE));
                constants.push(("KEYS", KEYS));
                Variant { kernel, strategy, fragments: fragments.clone(), constants }
            })
            .into(),
        // The tiled kernel has no reduction: subgroups have the same one.
        Strategy::Workgroup | Strategy::Subgroup => {
            constants.push(("ROWS", ROWS));
            vec![Variant { kernel: &ATTENTION_PREFILL, strategy: Strategy::Workgroup, fragments, constants }]
        }
    }
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &Attention<'_>) -> Result<()> {
    op.check(strategy);
    let kv = &op.kv;
    let variants = variants(strategy, kv.dtype, kv.head_dim, kv.slabs.len());
    let params = op.params();
    let heads = Extent::Fixed(kv.n_head as u32);
    let inputs = [op.step, op.qkv.into(), kv.page_table.into()];
    let slabs = kv.read_bindings();
    let mut dispatch = |variant: &Variant, outputs: &[BoundBuffer<'_>], grid: Grid| {
        recorder.dispatch(variant, &params, &[&inputs[..], outputs, &slabs].concat(), grid)
    };
    match &variants[..] {
        [scores, values] => {
            let rows = Extent::PerRows(PER_THREAD_WORKGROUP_SIZE);
            let scratch = op.scratch.buffer.into();
            dispatch(scores, &[scratch], Grid::Volume(rows, Extent::PerKeys(KEYS), heads))?;
            let packs = Extent::Fixed(params.packs);
            dispatch(values, &[op.out.into(), scratch], Grid::Volume(rows, packs, heads))
        }
        all => dispatch(&all[0], &[op.out.into()], Grid::Plane(Extent::PerRows(ROWS), heads)),
    }
}
