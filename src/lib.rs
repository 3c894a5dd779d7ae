//! Portable GPU inference of decoder-only language models.
//!
//! Every operation is a hand-written WGSL compute kernel on [`wgpu`], so one source runs
//! on Vulkan, Metal and DX12. The GPU holds the weights in f16 (or f32) and a paged KV
//! cache. Logits are read back for sampling and evaluation.
//!
//! ```no_run
//! use wgpt::{Engine, GenerateOptions};
//!
//! # fn main() -> wgpt::Result<()> {
//! let engine = Engine::builder().model("path/to/gpt2").build()?;
//! for piece in engine.generate("Once upon a time", GenerateOptions::default())? {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In `async` code, under any executor, [`EngineBuilder::build_async`] returns a future
//! and [`Engine::generate_stream`] a stream. Dropping either cancels its work.
//!
//! [`Session`] is the lower-level API: tokens in, logits out, with [`Session::fork`] and
//! [`Session::truncate`]. ARCHITECTURE.md in the repository describes the modules.

pub mod bench;
pub mod checkpoint;
pub mod doctor;
pub mod engine;
mod error;
pub mod eval;
pub mod gpu;
pub mod kernels;
pub mod memory;
pub mod model;
pub mod reference;
pub mod sampling;
pub mod tensor;
pub mod text;
pub mod tune;

pub use engine::{
    BatchLogits, Budget, Chat, Engine, EngineBuilder, GenerateOptions, Generation, GenerationStep, Session,
    StepReport, TokenScore,
};
pub use error::{Error, ErrorKind, Result};
pub use gpu::{GpuContext, required};
pub use wgpu;
