//! One operation per file: its variants, its parameters and the function that records it.
//!
//! Each file has a shader of the same name in `shaders/`, a naive f32 twin of the same
//! name in [`crate::reference`], and cases in [`crate::conformance::cases`]. Shapes are given in
//! elements. Rows are padded with zeros to [`crate::tensor::pad_row`].

pub mod argmax;
mod attention;
pub mod attention_decode;
pub mod attention_prefill;
pub mod attention_reduce;
mod candidate;
pub mod contract;
pub mod embedding;
mod fragments;
pub mod gated;
pub mod gemm;
pub mod gemv;
pub mod kv_append;
mod kv_overflow;
mod matmul;
mod matmul_form;
mod matrix;
pub mod norm;
pub mod norm_gemv;
mod paged;
pub mod probe_copy;
pub mod probe_fma;
pub mod probe_read;
pub mod probe_step;
pub mod qk_norm;
pub mod sample;
pub mod score;
mod source_hash;
mod step;

use norm_gemv::FusedAppend;

use crate::gpu::Variant;
use crate::tensor::DType;

pub use attention::{Attention, AttentionForm, AttentionParams, AttentionShape, Scratch};
pub use candidate::{Candidate, Choices, Needs, Op};
pub use kv_overflow::{KvOverflow, OVERFLOW_FLAG_BYTES, OverflowFlag, POSITIONS_MAX, TAGS_MAX};
pub use matmul::{Activation, Matmul, MatmulParams};
pub use matmul_form::{Form, MatmulForm, Rotary, gated_row};
pub use matrix::{Matrix, MatrixLayout, Piece};
pub use norm::{Norm, NormForm};
pub use paged::{PAGE_SIZE, PagedKv, SLABS_MAX, page_entry, page_pack_bytes};
pub use source_hash::SOURCE_HASH;
pub use step::{BATCH_MAX, Batch, ROWS_MAX, Row, Rows, Step, StepRows};

/// Returns every variant of every kernel for a sample of its constants. The shader
/// contract checks these variants.
#[must_use]
pub fn registry() -> Vec<Variant> {
    let mut all = Vec::new();
    let heads = [(8, 1), (64, 4), (80, 1), (attention_decode::HEAD_DIM_MAX, 1)];
    for dtype in [DType::F16, DType::F32] {
        for rows in [Rows::Chunk, Rows::Batch] {
            for (head_dim, n_slabs) in heads {
                let variant = |detect| kv_append::variant(dtype, head_dim, n_slabs, rows, detect);
                all.push(variant(false));
                all.extend((dtype == DType::F16).then(|| variant(true)));
                all.extend([None, Some(rows)].map(|rotated| qk_norm::variant(head_dim, rotated)));
            }
        }
        MatrixLayout::ALL.iter().for_each(|&layout| all.extend(matrix_variants(dtype, layout)));
        attention_forms(dtype).into_iter().for_each(|form| all.extend(attention_variants(form)));
    }
    all.extend(NormForm::ALL.iter().flat_map(|form| form.op().candidates()).map(norm::variant));
    all.push(gated::variant());
    all.push(argmax::variant());
    all.extend(Op::Score.candidates().iter().flat_map(score::variants));
    all.extend(probe_copy::SHAPES.map(probe_copy::variant));
    all.extend(probe_read::SHAPES.map(probe_read::variant));
    all.extend(probe_fma::SHAPES.map(probe_fma::variant));
    all.push(probe_step::variant());
    all.extend(sample::variants());
    all.sort_by_key(Variant::label);
    all.dedup_by_key(|variant| variant.label());
    all
}

/// Returns forms with head sizes and group sizes around the limits of a workgroup, with
/// and without a cap.
fn attention_forms(dtype: DType) -> Vec<AttentionForm> {
    let form =
        |head_dim, group, n_slabs, soft_cap| AttentionForm { dtype, head_dim, group, n_slabs, soft_cap };
    vec![
        form(8, 1, 1, false),
        form(64, 1, 4, false),
        form(64, 3, 1, false),
        form(80, 1, 1, true),
        form(128, 8, 4, true),
        form(256, 4, 1, true),
        form(attention_decode::HEAD_DIM_MAX, 1, 1, false),
        form(attention_decode::HEAD_DIM_MAX, 2, 1, false),
    ]
}

fn attention_variants(form: AttentionForm) -> Vec<Variant> {
    let mut all = Vec::new();
    for candidate in Op::AttentionPrefill.candidates() {
        for rows in [Rows::Chunk, Rows::Batch] {
            all.extend(attention_prefill::variants(candidate, rows, form));
        }
    }
    for candidate in Op::AttentionDecode.candidates() {
        all.extend(attention_decode::variants(candidate, form));
    }
    all
}

/// Returns the variants of kernels that read matrices.
fn matrix_variants(dtype: DType, layout: MatrixLayout) -> Vec<Variant> {
    let rows = [Some(Rows::Chunk), Some(Rows::Batch), None];
    let mut all = rows.map(|rows| embedding::variant(dtype, layout, rows)).to_vec();
    let forms = [Form::Plain, Form::Gated, Form::Rotated(Rows::Chunk), Form::Rotated(Rows::Batch)];
    for candidate in Op::Gemm.candidates() {
        let fused = |form: &Form| *form != Form::Gated || !gemm::needs_gated_scratch(candidate);
        let forms = forms.into_iter().filter(fused);
        all.extend(forms.flat_map(|form| gemm::variants(candidate, dtype, layout, form)));
    }
    for candidate in Op::Gemv.candidates() {
        for form in forms {
            all.extend(gemv::BATCHES.map(|batch| gemv::variant(candidate, dtype, layout, batch, form)));
        }
    }
    let after_norms = NormForm::ALL.iter().flat_map(|form| form.gemv_op().candidates());
    for candidate in after_norms.filter(|candidate| !candidate.kernels.is_empty()) {
        let f16 = FusedAppend { kv_dtype: DType::F16, n_head: 25, n_kv_head: 5, head_dim: 8, detect: false };
        let f32 = FusedAppend { kv_dtype: DType::F32, n_head: 2, n_kv_head: 1, head_dim: 64, detect: false };
        let (plain, rotated) = (Form::Plain, Form::Rotated(Rows::Batch));
        for (form, append) in [
            (plain, None),
            (Form::Gated, None),
            (rotated, None),
            (plain, Some(f16)),
            (plain, Some(FusedAppend { detect: true, ..f16 })),
            (plain, Some(f32)),
            (rotated, Some(f32)),
            (rotated, Some(f16)),
        ] {
            for &batch in norm_gemv::batches(candidate) {
                all.push(norm_gemv::variant(candidate, dtype, layout, 768, batch, form, append));
            }
        }
    }
    all
}
