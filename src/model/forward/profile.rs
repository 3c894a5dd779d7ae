//! Runs a pass and times each of its dispatches.

use super::{Forward, work};
use crate::error::Result;
use crate::gpu::{Dispatch, Timestamps, Work};
use crate::model::recordings::HeadRows;
use crate::model::{Model, PageLists};

/// The time of one dispatch of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchTiming {
    /// Label of the kernel variant.
    pub label: String,
    /// Workgroups in each dimension.
    pub workgroups: [u32; 3],
    /// Nanoseconds between the timestamps around it. Without timestamps, from its submit
    /// to the end of the wait.
    pub duration_ns: u64,
}

impl Forward {
    /// Runs one chunk as [`Forward::run`] does, but each dispatch in its own pass, and
    /// appends the times to `timings`. With `head` it also computes the logits of the
    /// last row, which stay on the GPU.
    ///
    /// # Errors
    /// As [`Forward::run`].
    ///
    /// # Panics
    /// As [`Forward::run`].
    pub fn profile(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        tokens: &[u32],
        position: usize,
        head: bool,
        timings: &mut Vec<DispatchTiming>,
    ) -> Result<()> {
        let (encoder, [body, last]) = self.begin(model, pages, tokens, position, false)?;
        self.submit(&model.gpu, encoder)?;
        let head = if head { HeadRows::Last } else { HeadRows::None };
        let [layers, head] = self.recordings.chunk(tokens.len(), head, model.options.deterministic);
        let dispatches: Vec<(&Dispatch, Work)> = layers
            .iter()
            .map(|dispatch| (dispatch, work(body)))
            .chain(head.iter().map(|dispatch| (dispatch, work(last))))
            .filter(|(dispatch, work)| dispatch.workgroups(*work).iter().all(|&n| n > 0))
            .collect();
        let mut timestamps = Timestamps::new(&model.gpu, dispatches.len())?;
        let times = model.gpu.run_timed(&dispatches, timestamps.as_mut())?;
        timings.extend(dispatches.iter().zip(times).map(|((dispatch, work), time)| DispatchTiming {
            label: dispatch.label().to_owned(),
            workgroups: dispatch.workgroups(*work),
            duration_ns: time.duration_ns(),
        }));
        self.check_f16_overflow(&model.gpu)
    }
}
