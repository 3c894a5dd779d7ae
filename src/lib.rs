//! wgpt

pub mod checkpoint;
mod error;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod reference;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
