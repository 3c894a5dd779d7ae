//! A normalization, the projection after it and, for q, k and v, the append to the cache.
//! They run as one kernel, or as two or three.

use super::candidate::{Candidate, Choices, Loads, Op};
use super::fragments::{KV_LAYOUT, OUTPUT_KV, ROWS_BATCH, input, overflow, pack4};
use super::gemv::{BATCHES, GEMV, GEMV_PER_THREAD};
use super::kv_append::KvAppend;
use super::matmul_form::Form;
use super::paged::{PAGE_SIZE, PagedKv};
use super::{Matmul, MatmulParams, MatrixLayout, Norm, NormForm, gemv, kv_append, norm};
use crate::error::Result;
use crate::gpu::{BoundBuffer, Recorder, Strategy, Variant};
use crate::tensor::DType;

/// The implementations after a layer norm. "separate" runs the implementations chosen for
/// layer_norm, gemv and kv_append. The others compute the norm in every workgroup of the
/// gemv, which costs a few more reads of one row and saves one or two dispatches. A batch
/// of several rows runs separately. For per-thread kernels, "separate" wins at every
/// measured width: 685 against 590 tokens/s at 192 features, 26 against 25 at 768
/// (lavapipe 25, 2 cores).
pub static LAYER_CANDIDATES: &[Candidate] = &candidates(Op::NormGemv);

/// The implementations after an RMS norm. The fused ones add up the squares during the
/// sums and multiply by the norm's factor at the end. A batch of several rows can
/// therefore run fused, and per-thread kernels have no barrier. In per-thread kernels,
/// every thread loads the norm's weight once for every eight loads of the matrix. 576 to
/// 960 features take 130 us fused, 133 us separately and 113 us without a norm; 576 to
/// 3072 take 622, 546 and 531 us (lavapipe 25, 2 cores; measured before four threads read
/// the input together).
pub static RMS_CANDIDATES: &[Candidate] = &candidates(Op::RmsGemv);

const fn candidates(op: Op) -> [Candidate; 9] {
    [
        Candidate::new(op, "separate", Strategy::PerThread, &[], &[]).preferred(1),
        per_thread(op, "per_thread_quad").loading(Loads::WideInQuads),
        per_thread(op, "per_thread"),
        workgroup(op, "workgroup_64", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64)]).preferred(1),
        workgroup(op, "workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 128)]),
        workgroup(op, "workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 256)]),
        workgroup(op, "subgroup_64", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64)]).preferred(1),
        workgroup(op, "subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 128)]),
        workgroup(op, "subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 256)]),
    ]
}

const fn per_thread(op: Op, name: &'static str) -> Candidate {
    let kernels = const { &[&GEMV_PER_THREAD] };
    Candidate::new(op, name, Strategy::PerThread, kernels, &[("WORKGROUP_SIZE", 8)])
}

const fn workgroup(
    op: Op,
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate::new(op, name, strategy, const { &[&GEMV] }, constants)
}

/// Maximum bytes of a normalized row: the portable workgroup memory, minus the memory for
/// the sums of the norm.
const NORMED_BYTES_MAX: usize = 16_384 - 256;

/// A normalization followed by a projection.
#[derive(Clone, Copy, Debug)]
pub struct NormGemv<'a> {
    /// The norm, which does not accumulate. Its `out` is written only if the norm is a
    /// separate kernel.
    pub norm: Norm<'a>,
    /// The projection; its `x` is the norm's `out`.
    pub projection: Matmul<'a>,
    /// The cache to which k and v are appended, if the projection is q, k and v.
    pub append: Option<KvAppend<'a>>,
}

/// Returns the numbers of rows that a fused kernel of the candidate can process at once.
/// After a layer norm it can process only one, because the norm's statistics are needed
/// before the sums.
pub(super) fn batches(candidate: &Candidate) -> &'static [usize] {
    match candidate.op.norm_form() {
        Some(NormForm::Rms) => &BATCHES,
        _ => &BATCHES[..1],
    }
}

/// Returns whether the candidate's kernels keep a normalized row in workgroup memory.
fn keeps_row(candidate: &Candidate) -> bool {
    candidate.op.norm_form() == Some(NormForm::Layer) && candidate.strategy == Strategy::PerThread
}

/// Returns whether the candidate has a fused kernel for a width and a batch.
fn is_fused(candidate: &Candidate, n_columns: usize, batch: usize) -> bool {
    let fits = !keeps_row(candidate) || n_columns * 4 <= NORMED_BYTES_MAX;
    batches(candidate).contains(&batch) && fits && !candidate.kernels.is_empty()
}

/// The properties on which a fused append depends.
#[derive(Clone, Copy, Debug)]
pub struct FusedAppend {
    /// Element type of the cache.
    pub kv_dtype: DType,
    /// Query heads, the first heads of a row.
    pub n_head: usize,
    /// KV heads: the heads of k, and of v after them.
    pub n_kv_head: usize,
    /// Elements of a head with padding.
    pub head_dim: usize,
    /// Whether f16 overflow is recorded.
    pub detect: bool,
}

/// Returns the fused variant for a weight type, a layout, a width, a batch, a form, and a
/// cache of one slab for k and v. A rotation with overflow detection has none, because it
/// would bind more than the portable eight storage buffers.
///
/// # Panics
/// For the candidate that runs separate kernels.
#[must_use]
pub fn variant(
    candidate: &Candidate,
    dtype: DType,
    layout: MatrixLayout,
    n_columns: usize,
    batch: usize,
    form: Form,
    append: Option<FusedAppend>,
) -> Variant {
    let mut fragments = vec![input(candidate.op.norm_form(), candidate.strategy)];
    let mut constants = Vec::new();
    if keeps_row(candidate) {
        constants.push(("K8", (n_columns / 8) as u32));
    }
    match append {
        None => {
            fragments.extend(gemv::output(form));
            constants.push(form.gated());
        }
        Some(FusedAppend { kv_dtype, n_head, n_kv_head, head_dim, detect }) => {
            fragments.push(ROWS_BATCH);
            fragments.extend([form.rotation(), KV_LAYOUT, pack4(kv_dtype), overflow(detect), OUTPUT_KV]);
            constants.extend([
                ("N_HEAD", n_head as u32),
                ("N_KV_HEAD", n_kv_head as u32),
                ("HEAD_DIM", head_dim as u32),
                ("PAGE_SIZE", PAGE_SIZE as u32),
            ]);
        }
    }
    gemv::variant_with(candidate, dtype, layout, batch, form, fragments, &constants)
}

/// Records `op` for the step's rows, `batch` at a time.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, choices: &Choices, batch: usize, op: &NormGemv<'_>) -> Result<()> {
    let NormGemv { norm, projection, append } = op;
    let candidate = choices.get(norm.form.gemv_op());
    let weights = projection.weights;
    if !is_fused(candidate, weights.n_columns, batch) {
        return separately(recorder, choices, batch, op);
    }
    assert!(!norm.accumulate, "a fused norm has no output to add to");
    let form = projection.form.kind();
    // With several slabs, or with both a rotation and the overflow flag, the fused kernel
    // would bind more than the portable eight storage buffers.
    let fused = append
        .as_ref()
        .filter(|append| append.kv.slabs.len() == 1 && !(form.is_rotated() && append.overflow.is_some()));
    let cache = fused.map(|append| {
        let PagedKv { dtype: kv_dtype, n_kv_head, head_dim, .. } = append.kv;
        let (n_head, detect) = (append.n_head, append.overflow.is_some());
        FusedAppend { kv_dtype, n_head, n_kv_head, head_dim, detect }
    });
    let variant = variant(candidate, weights.dtype, weights.layout, weights.n_columns, batch, form, cache);
    let mut more: Vec<BoundBuffer<'_>> = vec![norm.scale.into()];
    let mut tag = 0;
    if let Some(append) = fused {
        more.push(append.kv.page_table.into());
        if let Some(flag) = append.overflow {
            more.push(flag.buffer.into());
            tag = flag.tag as u32;
        }
        more.push((&append.kv.slabs[0]).into());
        // A rotation already binds the rows.
        more.extend(append.rows.batch.filter(|_| !form.is_rotated()));
    }
    let grid = |n| gemv::grid(candidate, batch, form, n);
    let fuse = |params: &mut MatmulParams| {
        (params.norm_n, params.epsilon, params.tag) = (norm.n as u32, norm.epsilon, tag);
    };
    let fused_projection = Matmul { x: norm.x, ..*projection };
    fused_projection.record_with(recorder, &variant, fuse, &more, grid)?;
    match append {
        Some(append) if fused.is_none() => kv_append::record(recorder, append),
        _ => Ok(()),
    }
}

fn separately(recorder: &mut Recorder<'_>, choices: &Choices, batch: usize, op: &NormGemv<'_>) -> Result<()> {
    norm::record(recorder, choices, &op.norm)?;
    gemv::record(recorder, choices.get(Op::Gemv), batch, &op.projection)?;
    op.append.map_or(Ok(()), |append| kv_append::record(recorder, &append))
}
