//! A layer normalization, the projection behind it, and for q, k and v the append
//! to the cache: one kernel, or two or three.

use super::candidate::{Candidate, Choices, Needs, Op};
use super::fragments::{
    INPUT_NORM, INPUT_NORM_PER_THREAD, KV_LAYOUT, OUTPUT_KV, ROWS_BATCH, overflow, pack4,
};
use super::gemv::{GEMV, GEMV_PER_THREAD};
use super::kv_append::KvAppend;
use super::layer_norm::LayerNorm;
use super::matmul_form::Form;
use super::paged::{PAGE_SIZE, PagedKv};
use super::{Matmul, MatmulParams, MatrixLayout, gemv, kv_append, layer_norm};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

/// The implementations. "separate" runs layer_norm, gemv and kv_append, as chosen
/// for themselves; the others compute the norm in every workgroup of the gemv,
/// which costs a few reads of one row more and saves one or two dispatches; a batch
/// of several rows runs separately. Per thread the separate kernels win at every
/// width measured: 685 to 590 tokens/s at 192 features, 26 to 25 at 768 (lavapipe
/// 25, 2 cores).
pub static CANDIDATES: &[Candidate] = &[
    candidate("separate", Strategy::PerThread, Needs::Floor, &[], &[]),
    candidate(
        "per_thread_wide",
        Strategy::PerThread,
        Needs::Int64,
        const { &[&GEMV_PER_THREAD] },
        &[("WORKGROUP_SIZE", 8)],
    ),
    candidate(
        "per_thread",
        Strategy::PerThread,
        Needs::Floor,
        const { &[&GEMV_PER_THREAD] },
        &[("WORKGROUP_SIZE", 8)],
    ),
    workgroup("workgroup_64", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64)]),
    workgroup("workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 128)]),
    workgroup("workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 256)]),
    workgroup("subgroup_64", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64)]),
    workgroup("subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 128)]),
    workgroup("subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 256)]),
];

const fn candidate(
    name: &'static str,
    strategy: Strategy,
    needs: Needs,
    kernels: &'static [&'static Kernel],
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate { op: Op::NormGemv, name, strategy, needs, kernels, constants }
}

const fn workgroup(
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    let needs = Needs::of(strategy);
    candidate(name, strategy, needs, const { &[&GEMV] }, constants)
}

/// The portable workgroup memory, less what the sums of the norm take.
const NORMED_BYTES_MAX: usize = 16_384 - 256;

/// A projection behind a layer normalization.
#[derive(Clone, Copy, Debug)]
pub struct NormGemv<'a> {
    /// Features of the norm.
    pub n: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// `[2, pad_row(n)]`: weight, then bias.
    pub scale: &'a GpuBuffer,
    /// The projection; its `x` is the norm's input.
    pub projection: Matmul<'a>,
    /// `[n_rows, pad_row(n)]`, for the norm where it is a kernel of its own.
    pub normed: &'a GpuBuffer,
    /// Where the projection is q, k and v: the cache that k and v go to.
    pub append: Option<KvAppend<'a>>,
}

/// Whether the candidate has a fused kernel for a width and a batch: of one row,
/// which lies in workgroup memory per thread.
fn is_fused(candidate: &Candidate, n_columns: usize, batch: usize) -> bool {
    let fits = candidate.strategy != Strategy::PerThread || n_columns * 4 <= NORMED_BYTES_MAX;
    batch == 1 && fits && !candidate.kernels.is_empty()
}

/// What a fused append depends on.
#[derive(Clone, Copy, Debug)]
pub struct FusedAppend {
    /// The cache's type.
    pub kv_dtype: DType,
    /// Heads of q, the first of a row.
    pub n_head: usize,
    /// Heads of k, and of v behind them.
    pub n_kv_head: usize,
    /// Elements of a head with padding.
    pub head_dim: usize,
    /// Whether values that f16 cannot hold are noted.
    pub detect: bool,
}

/// The fused variant of one row for a weight type, a layout, a width, a form, and a
/// cache of one slab for k and v. With both a rotation and the detection of what f16
/// cannot hold it would bind more than the portable eight storage buffers.
///
/// # Panics
/// For the candidate that runs separate kernels.
#[must_use]
pub fn variant(
    candidate: &Candidate,
    dtype: DType,
    layout: MatrixLayout,
    n_columns: usize,
    form: Form,
    append: Option<FusedAppend>,
) -> Variant {
    let mut fragments = Vec::new();
    let mut constants = Vec::new();
    if candidate.strategy == Strategy::PerThread {
        fragments.push(INPUT_NORM_PER_THREAD);
        constants.push(("K4", (n_columns / 4) as u32));
    } else {
        fragments.push(INPUT_NORM);
    }
    match append {
        None => fragments.extend(gemv::output(form)),
        Some(FusedAppend { kv_dtype, n_head, n_kv_head, head_dim, detect }) => {
            fragments.extend([
                ROWS_BATCH,
                form.rotation(),
                KV_LAYOUT,
                pack4(kv_dtype),
                overflow(detect),
                OUTPUT_KV,
            ]);
            constants.extend([
                ("N_HEAD", n_head as u32),
                ("N_KV_HEAD", n_kv_head as u32),
                ("HEAD_DIM", head_dim as u32),
                ("PAGE_SIZE", PAGE_SIZE as u32),
            ]);
        }
    }
    gemv::variant_with(candidate, dtype, layout, 1, form, fragments, &constants)
}

/// Records `op` for the step's rows, `batch` of them at a time.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, choices: &Choices, batch: usize, op: &NormGemv<'_>) -> Result<()> {
    let candidate = choices.get(Op::NormGemv);
    let NormGemv { projection, append, .. } = op;
    let weights = projection.weights;
    if !is_fused(candidate, weights.n_columns, batch) {
        return separately(recorder, choices, batch, op);
    }
    let form = projection.form.kind();
    // With several slabs, or with a rotation and the flag, the storage buffers of the
    // fused kernel would exceed the portable eight.
    let fused = append
        .as_ref()
        .filter(|append| append.kv.slabs.len() == 1 && !(form.is_rotated() && append.overflow.is_some()));
    let cache = fused.map(|append| {
        let PagedKv { dtype: kv_dtype, n_head: n_kv_head, head_dim, .. } = append.kv;
        let n_head = weights.n_rows / head_dim - 2 * n_kv_head;
        FusedAppend { kv_dtype, n_head, n_kv_head, head_dim, detect: append.overflow.is_some() }
    });
    let variant = variant(candidate, weights.dtype, weights.layout, weights.n_columns, form, cache);
    let mut more: Vec<BoundBuffer<'_>> = vec![op.scale.into()];
    let mut tag = 0;
    if let Some(append) = fused {
        more.push(append.kv.page_table.into());
        if let Some(flag) = append.overflow {
            more.push(flag.buffer.into());
            tag = flag.tag as u32;
        }
        more.push((&append.kv.slabs[0]).into());
        // A rotation has the rows itself.
        more.extend(append.rows.batch.filter(|_| !form.is_rotated()));
    }
    let grid = |n| gemv::grid(candidate, batch, form, n);
    let fuse = |params: &mut MatmulParams| {
        (params.norm_n, params.epsilon, params.tag) = (op.n as u32, op.epsilon, tag);
    };
    projection.record_with(recorder, &variant, fuse, &more, grid)?;
    match append {
        Some(append) if fused.is_none() => kv_append::record(recorder, append),
        _ => Ok(()),
    }
}

fn separately(recorder: &mut Recorder<'_>, choices: &Choices, batch: usize, op: &NormGemv<'_>) -> Result<()> {
    let NormGemv { n, epsilon, scale, projection, normed, append } = *op;
    let norm = LayerNorm { step: projection.step, n, epsilon, x: projection.x, scale, out: normed };
    layer_norm::record(recorder, choices.get(Op::LayerNorm), &norm)?;
    gemv::record(recorder, choices.get(Op::Gemv), batch, &Matmul { x: normed, ..projection })?;
    append.map_or(Ok(()), |append| kv_append::record(recorder, &append))
}
