//! wgpt

mod error;
pub mod gpu;
pub mod kernels;
pub mod reference;
pub mod tensor;
pub mod tune;

pub use error::{Error, ErrorKind, Result};
