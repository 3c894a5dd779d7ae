//! Dispatches timed one by one.

use std::time::Instant;

use super::{Dispatch, Gpu, PassTime, Timestamps, Work};
use crate::error::Result;

impl Gpu {
    /// Whether the device can tell the time of a pass.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Runs dispatches in order, each in a pass of its own, and returns when each
    /// ran: by `timestamps` in one submit, or without them by the wall time of a
    /// submit and a wait for each, the driver's work in between included.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] when the driver reports a fault.
    ///
    /// # Panics
    /// When `timestamps` has room for fewer passes.
    pub fn run_timed(
        &self,
        dispatches: &[(&Dispatch, Work)],
        timestamps: Option<&mut Timestamps>,
    ) -> Result<Vec<PassTime>> {
        let Some(timestamps) = timestamps else { return self.run_one_by_one(dispatches) };
        let mut encoder = self.encoder()?;
        for (i, (dispatch, work)) in dispatches.iter().enumerate() {
            encoder.timed_pass(timestamps, i, |pass| pass.run(std::slice::from_ref(*dispatch), *work));
        }
        timestamps.submit_and_read(self, encoder, dispatches.len())
    }

    fn run_one_by_one(&self, dispatches: &[(&Dispatch, Work)]) -> Result<Vec<PassTime>> {
        // What was handed over before is not the first dispatch's.
        self.flush()?;
        let start = Instant::now();
        let now = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut times = Vec::with_capacity(dispatches.len());
        for (dispatch, work) in dispatches {
            let begin_ns = now();
            self.run(std::slice::from_ref(*dispatch), *work)?;
            times.push(PassTime { begin_ns, end_ns: now() });
        }
        Ok(times)
    }
}
