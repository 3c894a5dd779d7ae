//! One operation a file: its variants, its parameters and the function that
//! records it.
//!
//! Each file stands beside a shader of the same name in `shaders/`, a naive
//! f32 twin of the same name in [`crate::reference`], and cases in
//! [`crate::tune::cases`]. Shapes are given in elements; rows are padded as
//! [`crate::tensor::pad_row`] says, the padding holding zeros.

pub mod argmax;
mod attention;
pub mod attention_decode;
pub mod attention_prefill;
pub mod attention_reduce;
mod candidate;
pub mod embedding;
mod fragments;
pub mod gemm;
pub mod gemv;
pub mod kv_append;
mod kv_overflow;
pub mod layer_norm;
mod matmul;
mod matrix;
pub mod norm_gemv;
mod paged;
pub mod probe_copy;
pub mod probe_fma;
pub mod probe_read;
pub mod probe_step;
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
pub use matrix::{Matrix, MatrixLayout, Piece};
pub use paged::{PAGE_SIZE, PagedKv, SLABS_MAX, page_entry, page_pack_bytes};
pub use source_hash::source_hash;
pub use step::{BATCH_MAX, Batch, ROWS_MAX, Row, Rows, Step, StepRows};

/// Every variant of every kernel at a sample of its constants: what the shader
/// contract checks.
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
            }
        }
        MatrixLayout::ALL.iter().for_each(|&layout| all.extend(matrix_variants(dtype, layout)));
        attention_forms(dtype).into_iter().for_each(|form| all.extend(attention_variants(form)));
    }
    all.extend(Op::LayerNorm.candidates().iter().map(layer_norm::variant));
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

/// Heads and groups of them around what a workgroup holds, with and without a cap.
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

/// Those that read matrices.
fn matrix_variants(dtype: DType, layout: MatrixLayout) -> Vec<Variant> {
    let mut all = [Rows::Chunk, Rows::Batch].map(|rows| embedding::variant(dtype, layout, rows)).to_vec();
    all.extend(Op::Gemm.candidates().iter().flat_map(|candidate| gemm::variants(candidate, dtype, layout)));
    for candidate in Op::Gemv.candidates() {
        all.extend(gemv::BATCHES.map(|batch| gemv::variant(candidate, dtype, layout, batch)));
    }
    let fused = Op::NormGemv.candidates().iter().filter(|candidate| !candidate.kernels.is_empty());
    for candidate in fused {
        let f16 = FusedAppend { kv_dtype: DType::F16, n_head: 25, head_dim: 8, detect: false };
        let f32 = FusedAppend { kv_dtype: DType::F32, n_head: 2, head_dim: 64, detect: false };
        for append in [None, Some(f16), Some(FusedAppend { detect: true, ..f16 }), Some(f32)] {
            all.push(norm_gemv::variant(candidate, dtype, layout, 768, append));
        }
    }
    all
}
