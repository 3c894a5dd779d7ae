//! The one error type of the library.

use std::path::PathBuf;

/// What every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that a file, a user or a driver can cause.
///
/// Each message says what was expected, what was found and what to do; a
/// caller that must react by kind matches the variant or asks
/// [`Error::kind`].
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
        /// What the operating system said.
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
    /// A field of `config.json` has a value that wgpt does not honour.
    #[error("config.json: {field} = {value}: {expected}")]
    Config {
        /// The field's name.
        field: String,
        /// The value found, as JSON.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// A tensor of the checkpoint is missing, unexpected, wrongly shaped or
    /// holds a value that the requested dtype cannot.
    #[error("tensor {tensor}: {message}")]
    Tensor {
        /// The tensor's name in the file.
        tensor: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A prompt, a parameter or another input of the caller is not acceptable.
    #[error("{0}")]
    Input(String),
    /// A key or a value exceeds f16 on its way into a KV cache of f16; told where
    /// `ModelOptions::detect_overflow` asks for it. The step that ran into it is
    /// undone. A step of several sequences names a position of one of them.
    #[error(
        "layer {layer}: the {what} at position {position} is not a number that f16 holds (65504 at most): keep \
         the KV cache in f32, with --kv-dtype f32 (ModelOptions::kv_dtype)"
    )]
    Overflow {
        /// The lowest layer that it occurs in, from 0: what is above computes with it.
        layer: usize,
        /// The lowest position of it there, from 0.
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
    /// The driver has no memory for something. What was there before still is.
    #[error("{}", out_of_memory(what, *bytes, message))]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// Its size, where it is known.
        bytes: Option<u64>,
        /// What the driver said.
        message: String,
    },
    /// The device is lost: a driver reset, a card that was unplugged or put to sleep.
    /// Everything on it is gone; [`crate::Engine::rebind`] goes on with another one.
    #[error("the GPU device is lost ({message}): rebind the engine to a new one, or restart")]
    DeviceLost {
        /// What the driver said.
        message: String,
    },
    /// The driver or wgpu reported a fault.
    #[error("GPU {operation}: {message}")]
    Gpu {
        /// What was being done: "upload", "submit", "read back" ...
        operation: &'static str,
        /// What the driver said.
        message: String,
    },
    /// The caller's callback or flag asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The time that the caller gave is over.
    #[error("the time limit was reached: give more time, or less to do")]
    Timeout,
}

/// The coarse classes that decide an exit code.
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
    /// The coarse class of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Model { .. }
            | Error::Config { .. }
            | Error::Tensor { .. }
            | Error::Input(_)
            | Error::Overflow { .. }
            | Error::Limits(_) => ErrorKind::Input,
            // A model or prompt path that does not exist is bad input, a disk
            // that fails is not, nor is a system without another thread.
            Error::Io { action, .. } if !matches!(*action, "write" | "start") => ErrorKind::Input,
            Error::Io { .. } | Error::Gpu { .. } => ErrorKind::Other,
            Error::NoAdapter(_) => ErrorKind::NoAdapter,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Timeout => ErrorKind::Timeout,
            Error::DeviceLost { .. } => ErrorKind::DeviceLost,
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
        }
    }

    pub(crate) fn model(file: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Model { file: file.into(), message: message.into() }
    }

    pub(crate) fn tensor(tensor: impl Into<String>, message: impl Into<String>) -> Self {
        // A file may hold control characters in a name, which a terminal obeys.
        let tensor: String = tensor.into();
        let tensor =
            tensor.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
        Error::Tensor { tensor: tensor.collect(), message: message.into() }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
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
