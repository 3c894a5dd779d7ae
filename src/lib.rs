//! wgpt

pub mod bench;
pub mod checkpoint;
pub mod engine;
mod error;
pub mod eval;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod reference;
pub mod sampling;
pub mod tensor;
pub mod text;
pub mod tune;

pub use engine::{Engine, EngineBuilder, GenerateOptions, Generation, Session};
pub use error::{Error, ErrorKind, Result};
