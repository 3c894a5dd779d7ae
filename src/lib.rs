//! wgpt

mod error;
pub mod gpu;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
