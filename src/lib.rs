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

#![cfg_attr(
    not(feature = "internals"),
    allow(dead_code, unused_imports, reason = "the program and the tests use the rest through `internals`")
)]

mod bench;
mod checkpoint;
mod conformance;
pub mod doctor;
mod engine;
mod error;
pub mod files;
mod gpu;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod kernels;
mod memory;
mod model;
mod reference;
mod sampling;
mod tensor;
mod text;
mod tune;

// The engine, its sessions and texts.
pub use engine::{
    Answer, Background, BatchLogits, Budget, CancelFlag, Chat, ChatOverflow, Engine, EngineBuilder,
    FinishReason, GenerateOptions, Generation, GenerationStep, GenerationStream, GpuOutputs, LookupStats,
    Message, ModelFiles, OutputRows, Overflow, Overrun, Piece, Session, StepReport, Timings, TokenScore,
    TurnStats,
};
pub use error::{Error, ErrorKind, Result};
// Loading of a model, and the memory that it takes.
pub use checkpoint::{ByteSource, GenerationConfig};
pub use kernels::Candidate as KernelCandidate;
pub use memory::{Change, Fit, MemoryGroup, MemoryPlan, OverBudget, PlanEntry};
pub use model::{LoadPhase, LoadProgress, ModelOptions, ProgressFn};
pub use tensor::DType;
pub use tune::{Budget as TuningBudget, Progress as TuningProgress, Tuning};
// Adapters and devices, including a device of the host program.
pub use gpu::{
    AdapterReport, Backend, DevicePreview, DeviceType, Gpu, GpuContext, GpuOptions, GpuSource, LossSignal,
    Required, Strategy, adapters, required,
};
pub use wgpu;
// Text processing, sampling and log-probabilities.
pub use sampling::{
    LogSoftmax, NllSum, Sampler, SamplingParams, TokenLogprobs, negative_log_likelihood, token_logprobs,
};
pub use text::{ChatTemplate, StreamDecoder, TemplateInput, Tokenizer};

/// Tests of what safe code can do without the feature `internals`. Each example fails
/// with the named error, or compiles.
///
/// It cannot name the recorder of kernels:
///
/// ```compile_fail,E0603
/// #![forbid(unsafe_code)]
/// use wgpt::gpu::Recorder;
/// ```
///
/// It can name a kernel candidate and cannot make one:
///
/// ```
/// #![forbid(unsafe_code)]
/// let found: wgpt::Result<&'static wgpt::KernelCandidate> = "gemv=none".parse();
/// assert!(found.is_err());
/// ```
///
/// ```compile_fail,E0451
/// #![forbid(unsafe_code)]
/// fn renamed(candidate: wgpt::KernelCandidate) -> wgpt::KernelCandidate {
///     wgpt::KernelCandidate { name: "mine", ..candidate }
/// }
/// ```
#[cfg(doctest)]
struct WithoutInternals;

/// Tests of what safe code can do with the feature `internals`.
///
/// A recording with checks is safe:
///
/// ```
/// #![forbid(unsafe_code)]
/// use wgpt::internals::gpu::{Params, Recorder};
///
/// fn recorder<'g>(gpu: &'g wgpt::Gpu, params: &'g mut Params) -> Recorder<'g> {
///     Recorder::new(gpu, params)
/// }
/// ```
///
/// A recording without checks is unsafe:
///
/// ```compile_fail,E0133
/// use wgpt::internals::gpu::{Params, Recorder};
///
/// fn recorder<'g>(gpu: &'g wgpt::Gpu, params: &'g mut Params) -> Recorder<'g> {
///     Recorder::unchecked(gpu, params)
/// }
/// ```
///
/// A candidate with foreign shaders is unsafe:
///
/// ```compile_fail,E0133
/// use wgpt::Strategy;
/// use wgpt::internals::kernels::{Candidate, Needs, Op};
///
/// fn foreign() -> Candidate {
///     Candidate::foreign(Op::Gemv, "mine", Strategy::PerThread, Needs::Floor, &[], &[])
/// }
/// ```
///
/// So is a case with sizes that the caller chooses:
///
/// ```compile_fail,E0133
/// use wgpt::internals::conformance::{Prepared, cases::Case, prepare_case};
/// use wgpt::internals::kernels::Choices;
///
/// fn prepared(gpu: &wgpt::Gpu, case: &Case, choices: &Choices) -> wgpt::Result<Prepared> {
///     prepare_case(gpu, case, choices)
/// }
/// ```
#[cfg(all(doctest, feature = "internals"))]
struct WithInternals;
