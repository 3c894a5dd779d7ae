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
pub mod embedding;
mod fragments;
pub mod gemm;
pub mod gemv;
pub mod kv_append;
pub mod layer_norm;
mod matmul;
mod paged;
pub mod sample;

use crate::gpu::{Strategy, Variant};
use crate::tensor::DType;

pub use attention::{Attention, AttentionParams, Scratch};
pub use matmul::{Activation, Matmul, MatmulParams, Matrix, Piece};
pub use paged::{PAGE_SIZE, PagedKv, SLABS_MAX, page_entry, page_pack_bytes};

/// What changes from step to step; the shaders' `Step`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Rows of activations that this pass works on.
    pub n_rows: u32,
    /// The first of them in the input.
    pub first_row: u32,
    /// Position in the sequence of row 0 of the chunk.
    pub position: u32,
    /// Positions in the KV cache once this chunk is appended.
    pub kv_len: u32,
}

/// Every variant of every kernel at a sample of its constants: what the shader
/// contract checks.
#[must_use]
pub fn registry() -> Vec<Variant> {
    let mut all = Vec::new();
    for strategy in [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup] {
        all.push(layer_norm::variant(strategy));
        for dtype in [DType::F16, DType::F32] {
            all.push(gemv::variant(strategy, dtype));
            all.push(gemm::variant(strategy, dtype));
            all.push(embedding::variant(dtype));
            for (head_dim, n_slabs) in [(8, 1), (64, 4), (80, 1), (attention_decode::HEAD_DIM_MAX, 1)] {
                all.push(kv_append::variant(dtype, head_dim, n_slabs));
                all.extend(attention_prefill::variants(strategy, dtype, head_dim, n_slabs));
                all.extend(attention_decode::variants(strategy, dtype, head_dim, n_slabs));
            }
        }
    }
    all.push(argmax::variant());
    all.extend(sample::variants());
    all.sort_by_key(Variant::label);
    all.dedup_by_key(|variant| variant.label());
    all
}
