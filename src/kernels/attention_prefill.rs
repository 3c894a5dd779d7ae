//! Causal attention of many rows: prefill, rows of several sequences together, and
//! decode where results must not depend on the number of rows.

use super::attention::{self, Attention};
use super::candidate::{Candidate, Needs, Op};
use super::step::Rows;
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

/// The implementations.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_wide", Needs::Int64),
    per_thread("per_thread", Needs::Floor),
    Candidate {
        op: Op::AttentionPrefill,
        name: "tile_16x32",
        strategy: Strategy::Workgroup,
        needs: Needs::Floor,
        kernels: const { &[&ATTENTION_PREFILL] },
        constants: &[("ROWS", 16)],
    },
];

/// Workgroups of one vector of a software adapter at its usual width.
const fn per_thread(name: &'static str, needs: Needs) -> Candidate {
    Candidate {
        op: Op::AttentionPrefill,
        name,
        strategy: Strategy::PerThread,
        needs,
        kernels: const { &[&ATTENTION_PREFILL_SCORES, &ATTENTION_PREFILL_VALUES] },
        constants: &[("WORKGROUP_SIZE", 8), ("KEYS", 4)],
    }
}

/// The variants for a kind of rows, a cache type, a padded head and a number of
/// slabs, in the order of their dispatch.
#[must_use]
pub fn variants(
    candidate: &Candidate,
    rows: Rows,
    dtype: DType,
    head_dim: usize,
    n_slabs: usize,
) -> Vec<Variant> {
    let variant = |index| attention::variant(candidate, index, rows, dtype, head_dim, n_slabs);
    (0..candidate.kernels.len()).map(variant).collect()
}

/// Records `op` for the rows of a chunk, or of a batch in which those of a sequence
/// stand together as far as they can: a workgroup loads keys once for each sequence
/// among its rows. A row's sums are the same in both.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Attention<'_>) -> Result<()> {
    op.check(candidate);
    let kv = &op.kv;
    let variants = variants(candidate, op.rows.kind(), kv.dtype, kv.head_dim, kv.slabs.len());
    let heads = Extent::Fixed(kv.n_head as u32);
    match candidate.strategy {
        Strategy::PerThread => {
            let rows = Extent::PerRows(candidate.constant("WORKGROUP_SIZE"));
            let keys = Extent::PerKeys(candidate.constant("KEYS"));
            let scores = op.scratch.buffer.into();
            op.dispatch(recorder, &variants[0], 0, &[scores], Grid::Volume(rows, keys, heads))?;
            let packs = Extent::Fixed((kv.head_dim / 8) as u32);
            let grid = Grid::Volume(rows, packs, heads);
            op.dispatch(recorder, &variants[1], 0, &[op.out.into(), scores], grid)
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            let grid = Grid::Plane(Extent::PerRows(candidate.constant("ROWS")), heads);
            op.dispatch(recorder, &variants[0], 0, &[op.out.into()], grid)
        }
    }
}
