//! Timing of individual dispatches.

use std::time::Instant;

use super::{Dispatch, Gpu, PassTime, Timestamps, Work};
use crate::error::Result;

impl Gpu {
    /// Returns whether the device can time passes.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Runs dispatches in order, each in its own pass, and returns their times. With
    /// `timestamps`, all run in one submit, and the GPU's clock measures them. Without
    /// it, each is submitted and awaited separately, and its time is wall time that
    /// includes the driver's work.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    ///
    /// # Panics
    /// If `timestamps` has too few passes.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn run_timed(
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
        // The time of earlier work must not count for the first dispatch.
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
