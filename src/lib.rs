//! wgpt

mod error;
pub mod sampling;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
