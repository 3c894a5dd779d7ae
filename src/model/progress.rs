//! The progress of a load, and its cancellation.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// The phases of loading, in the order of their first reports. Each phase reports
/// completion (`done == total`) at least once.
///
/// Reading and uploading alternate in blocks of about 4 MiB, so that host memory never
/// holds the model. Their reports alternate too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadPhase {
    /// Opens files and device, selects kernels, plans memory, and compares the
    /// checkpoint's names and shapes with the config. It counts these four steps. If
    /// files and device are already open, the load starts after the second step.
    Plan,
    /// Reads and converts weights; counts bytes of the files.
    Read,
    /// Uploads weights to the GPU; counts bytes on the GPU. The last report comes after
    /// all uploads have finished.
    Upload,
    /// Compiles kernels and records passes. It counts the layers of prefill and decode,
    /// and two more steps for heads and argmax.
    Compile,
    /// Runs each kernel once, so that drivers finish its compilation.
    WarmUp,
}

impl LoadPhase {
    /// All phases, in order.
    pub const ALL: [LoadPhase; 5] =
        [LoadPhase::Plan, LoadPhase::Read, LoadPhase::Upload, LoadPhase::Compile, LoadPhase::WarmUp];
}

/// Number of steps of [`LoadPhase::Plan`].
pub const PLAN_STEPS: u64 = 4;

/// The progress of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The phase.
    pub phase: LoadPhase,
    /// Units that are done.
    pub done: u64,
    /// Units in total.
    pub total: u64,
}

/// A caller's progress callback; `Break` cancels the load.
pub type ProgressFn<'a> = dyn FnMut(LoadProgress) -> ControlFlow<()> + 'a;

/// Calls `progress` and turns its `Break` into an error.
///
/// # Errors
/// [`Error::Cancelled`].
pub(crate) fn report(progress: &mut ProgressFn<'_>, phase: LoadPhase, done: u64, total: u64) -> Result<()> {
    match progress(LoadProgress { phase, done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
