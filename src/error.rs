//! The library's one error type.

use std::path::PathBuf;

use crate::memory::OverBudget;

/// The result type of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error that a file, a user or a driver can cause.
///
/// Each message says what was expected, what was found and what to do. A caller that must
/// react to the kind of error matches the variant or calls [`Error::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "open", "read", "write" ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file of the model is damaged, or its parts contradict one another.
    #[error("{file}: {message}")]
    Model {
        /// The file, as the user would name it.
        file: String,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// A field of `config.json` has a value that wgpt does not support.
    #[error("config.json: {field} = {value}: {expected}")]
    Config {
        /// The field's name.
        field: String,
        /// The value found, as JSON.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// A tensor of the checkpoint is missing, unexpected or wrongly shaped, or it holds a
    /// value that the requested dtype cannot represent.
    #[error("tensor {tensor}: {message}")]
    Tensor {
        /// The tensor's name in the file.
        tensor: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A prompt, a parameter or another input from the caller is invalid.
    #[error("{0}")]
    Input(String),
    /// f16 overflow: a key or a value is too large for the f16 KV cache. It is reported
    /// only with `ModelOptions::detect_overflow`. The step that caused it is undone. If
    /// the step covered several sequences, the position belongs to one of them.
    #[error(
        "layer {layer}: the {what} at position {position} does not fit into f16 (at most 65504): keep the KV \
         cache in f32 (ModelOptions::kv_dtype = f32)"
    )]
    Overflow {
        /// The lowest layer with an overflow, counted from 0. Higher layers compute with
        /// its output.
        layer: usize,
        /// The lowest position with an overflow in that layer, counted from 0.
        position: usize,
        /// "key" or "value".
        what: &'static str,
    },
    /// No adapter fits the request.
    #[error("{0}")]
    NoAdapter(String),
    /// The model does not fit the device's limits or memory.
    #[error("{0}")]
    Limits(String),
    /// The model does not fit its memory budget. Holds the plan and the options that
    /// would fit. Nothing was allocated.
    #[error("{0}")]
    Budget(Box<OverBudget>),
    /// The driver has no memory for an allocation. Earlier allocations remain valid.
    #[error("{}", out_of_memory(what, *bytes, message))]
    OutOfMemory {
        /// The purpose of the memory.
        what: String,
        /// Its size in bytes, if known.
        bytes: Option<u64>,
        /// The driver's message.
        message: String,
    },
    /// The device is lost: a driver reset, or a card that was unplugged or put to sleep.
    /// Everything on it is gone. [`crate::Engine::rebind`] continues with another device.
    #[error("the GPU device is lost ({message}): rebind the engine to a new one, or restart")]
    DeviceLost {
        /// The driver's message.
        message: String,
    },
    /// The driver or wgpu reported a fault.
    #[error("GPU {operation}: {message}")]
    Gpu {
        /// The operation: "upload", "submit", "read back" ...
        operation: &'static str,
        /// The driver's message.
        message: String,
    },
    /// The caller's callback or flag requested a stop.
    #[error("cancelled")]
    Cancelled,
    /// The caller's time limit has passed.
    #[error("the time limit was reached: allow more time or ask for less")]
    Timeout,
}

/// The coarse error classes that decide an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The model or another input is at fault.
    Input,
    /// No usable GPU adapter.
    NoAdapter,
    /// The caller cancelled.
    Cancelled,
    /// The caller's time limit was reached.
    Timeout,
    /// The device is lost.
    DeviceLost,
    /// The GPU has no memory left.
    OutOfMemory,
    /// Anything else: the driver, the file system.
    Other,
}

impl Error {
    /// Returns the coarse class of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Model { .. }
            | Error::Config { .. }
            | Error::Tensor { .. }
            | Error::Input(_)
            | Error::Overflow { .. }
            | Error::Limits(_)
            | Error::Budget(_) => ErrorKind::Input,
            // A model or prompt path that does not exist is bad input, so errors of other
            // actions count as input. A failed write does not, nor does a thread that
            // cannot be started.
            Error::Io { action, .. } if !matches!(*action, "write" | "start") => ErrorKind::Input,
            Error::Io { .. } | Error::Gpu { .. } => ErrorKind::Other,
            Error::NoAdapter(_) => ErrorKind::NoAdapter,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Timeout => ErrorKind::Timeout,
            Error::DeviceLost { .. } => ErrorKind::DeviceLost,
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
        }
    }

    /// An [`Error::Model`] about `file`.
    pub fn model(file: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Model { file: file.into(), message: message.into() }
    }

    pub(crate) fn tensor(tensor: impl Into<String>, message: impl Into<String>) -> Self {
        // A tensor name from a file may hold control characters, which a terminal would
        // obey.
        let tensor: String = tensor.into();
        let tensor =
            tensor.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
        Error::Tensor { tensor: tensor.collect(), message: message.into() }
    }

    /// The error of a call during which the engine moved to another device.
    pub(crate) fn engine_moved() -> Self {
        Error::DeviceLost { message: "the engine moved to another device during a call".into() }
    }

    /// An [`Error::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Error::Input(message.into())
    }
}

fn out_of_memory(what: &str, bytes: Option<u64>, message: &str) -> String {
    let size = bytes.map_or(String::new(), |bytes| format!(" of {bytes} bytes"));
    format!(
        "the GPU has no memory left for {what}{size} ({message}): close other programs, drop sessions, or use a \
         shorter context or a smaller model"
    )
}
