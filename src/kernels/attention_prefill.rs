//! Causal attention of many rows: prefill, and decode where results must not
//! depend on the number of rows.

use super::attention::{self, Attention, PER_THREAD_WORKGROUP_SIZE};
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};
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
/// Positions of a thread of the scores kernel.
const KEYS: u32 = 4;

/// The variants for a strategy, a cache type, a padded head and a number of
/// slabs, in the order of their dispatch.
#[must_use]
pub fn variants(strategy: Strategy, dtype: DType, head_dim: usize, n_slabs: usize) -> Vec<Variant> {
    let variant = |kernel, strategy| attention::variant(kernel, strategy, dtype, head_dim, n_slabs);
    match strategy {
        Strategy::PerThread => [&ATTENTION_PREFILL_SCORES, &ATTENTION_PREFILL_VALUES]
            .map(|kernel| {
                let mut variant = variant(kernel, strategy);
                variant.constants.extend([("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE), ("KEYS", KEYS)]);
                variant
            })
            .into(),
        // The tiled kernel has no reduction: subgroups have the same one.
        Strategy::Workgroup | Strategy::Subgroup => {
            let mut tiled = variant(&ATTENTION_PREFILL, Strategy::Workgroup);
            tiled.constants.push(("ROWS", ROWS));
            vec![tiled]
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
    let heads = Extent::Fixed(kv.n_head as u32);
    match &variants[..] {
        [scores, values] => {
            let rows = Extent::PerRows(PER_THREAD_WORKGROUP_SIZE);
            let scratch = op.scratch.buffer.into();
            let keys = Extent::PerKeys(KEYS);
            op.dispatch(recorder, scores, &[scratch], Grid::Volume(rows, keys, heads))?;
            let packs = Extent::Fixed((kv.head_dim / 8) as u32);
            op.dispatch(recorder, values, &[op.out.into(), scratch], Grid::Volume(rows, packs, heads))
        }
        all => op.dispatch(recorder, &all[0], &[op.out.into()], Grid::Plane(Extent::PerRows(ROWS), heads)),
    }
}
