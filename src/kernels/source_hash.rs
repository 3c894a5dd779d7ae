//! The identity of the kernels, for records of measurements.

/// A hash of the WGSL and of the Rust code that composes and records it. It has 16
/// hexadecimal digits. `build.rs` computes it when the library is built.
pub const SOURCE_HASH: &str = env!("WGPT_KERNEL_SOURCES");
