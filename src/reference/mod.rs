//! Naive twins of the kernels: f32 in and out, f64 inside, without padding or tiling.
//! They are simple enough to be obviously correct. Tests and benchmarks use them.

pub mod activation;
mod argmax;
mod attention_decode;
mod attention_prefill;
mod attention_reduce;
mod embedding;
mod gated;
mod gemm;
mod gemv;
mod kv_append;
mod norm;
mod probe_copy;
mod probe_fma;
mod probe_read;
mod probe_step;
mod qk_norm;
mod rotary;
mod sample;
mod score;

pub use argmax::argmax;
pub use attention_decode::{Attention, attention_decode};
pub use attention_prefill::attention_prefill;
pub use attention_reduce::{Partial, attention_reduce};
pub use embedding::embedding;
pub use gated::gated;
pub use gemm::gemm;
pub use gemv::gemv;
pub use kv_append::{exceeds_f16, kv_append};
pub use norm::{layer_norm, rms_norm};
pub use probe_copy::probe_copy;
pub use probe_fma::probe_fma;
pub use probe_read::probe_read;
pub use probe_step::probe_step;
pub use qk_norm::qk_norm;
pub use rotary::rotary;
pub use sample::sample;
pub use score::{Score, score};
