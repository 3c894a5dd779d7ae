//! wgpt

mod error;
pub mod sampling;
pub mod tensor;
pub mod text;

pub use error::{Error, ErrorKind, Result};
