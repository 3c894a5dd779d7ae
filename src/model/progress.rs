//! How far a load is, and the way to end it.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// The phases of loading, in the order of their first reports. Each reports its
/// total at least once as done.
///
/// Reading and uploading take turns, a block of some 4 MiB after the other, so that
/// host memory never holds the model: their reports alternate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadPhase {
    /// Files and device are opened, kernels chosen, memory planned, the checkpoint's
    /// names and shapes compared with the config; counts these [`PLAN_STEPS`]. A load
    /// of opened files onto an open device begins behind the second one.
    Plan,
    /// Weights are read and converted; counts bytes of the files.
    Read,
    /// Weights are handed to the GPU; counts bytes there. The last report comes when
    /// all of them have arrived.
    Upload,
    /// Kernels are compiled and passes recorded; counts layers of both phases and heads.
    Compile,
    /// Each kernel runs once, which makes drivers finish their compilation.
    WarmUp,
}

impl LoadPhase {
    /// All of them, in order.
    pub const ALL: [LoadPhase; 5] =
        [LoadPhase::Plan, LoadPhase::Read, LoadPhase::Upload, LoadPhase::Compile, LoadPhase::WarmUp];
}

/// The steps of [`LoadPhase::Plan`].
pub const PLAN_STEPS: u64 = 4;

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The phase.
    pub phase: LoadPhase,
    /// Units done.
    pub done: u64,
    /// Units in all.
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
