//! The state of the kernels that a measurement was made with.

/// A hash of the WGSL and of the Rust code that composes and records it, 16 hexadecimal
/// digits, computed when the library is built (`build.rs`).
pub const SOURCE_HASH: &str = env!("WGPT_KERNEL_SOURCES");
