//! External interruption of a call: flags and a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A flag that another thread raises to end a load, a prefill or a generation.
pub type CancelFlag = Arc<AtomicBool>;

/// The conditions that interrupt a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    /// The caller's flag.
    pub(super) cancel: Option<CancelFlag>,
    /// The time at which the caller's time limit is reached.
    pub(super) deadline: Option<Instant>,
    /// Raised when the result is no longer needed.
    pub(super) abandoned: Option<CancelFlag>,
}

impl Interrupt {
    /// Returns an error if the call must end.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Timeout`].
    pub(super) fn check(&self) -> Result<()> {
        let raised = |flag: &Option<CancelFlag>| flag.as_ref().is_some_and(|f| f.load(Ordering::Relaxed));
        if raised(&self.cancel) || raised(&self.abandoned) {
            return Err(Error::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::Timeout),
            _ => Ok(()),
        }
    }
}

/// The deadline for a time limit that starts now. `None` without a limit, and for a limit
/// beyond the range of the clock.
pub(super) fn deadline_in(timeout: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(timeout?)
}
