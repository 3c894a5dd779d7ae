//! wgpt

pub mod checkpoint;
mod error;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
