//! Naive twins of the kernels: f32 in and out, f64 inside, no padding, no
//! tiling. Too simple to be wrong; for tests and benchmarks.

pub mod activation;
mod argmax;
mod attention_decode;
mod attention_prefill;
mod attention_reduce;
mod embedding;
mod gemm;
mod gemv;
mod kv_append;
mod layer_norm;
mod probe_copy;
mod probe_fma;
mod probe_read;
mod probe_step;
mod sample;
mod score;

pub use argmax::argmax;
pub use attention_decode::{Attention, attention_decode};
pub use attention_prefill::attention_prefill;
pub use attention_reduce::{Partial, attention_reduce};
pub use embedding::embedding;
pub use gemm::gemm;
pub use gemv::gemv;
pub use kv_append::{exceeds_f16, kv_append};
pub use layer_norm::layer_norm;
pub use probe_copy::probe_copy;
pub use probe_fma::probe_fma;
pub use probe_read::probe_read;
pub use probe_step::probe_step;
pub use sample::sample;
pub use score::{Score, score};
