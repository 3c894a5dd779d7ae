//! Passes of one sequence that run in pieces, over several calls.
//!
//! Sessions share activation buffers, so at most one pass is unfinished at a time. Any
//! other call finishes it first and stores its result for its owner.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Pieces;
use super::cost::{CostModel, Piece, fewer_rows};
use super::split::{Place, Segment, cost_of, encode, loads, piece_at};
use crate::error::Result;
use crate::gpu::{Encoder, Gpu, Timestamps};
use crate::kernels::Step;
use crate::model::dims::Slot;
use crate::model::forward::{Forward, work};
use crate::model::recordings::{HeadRows, Recordings};
use crate::model::{Model, PageLists};

/// The owner of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassOwner(u64);

impl PassOwner {
    /// Returns a unique owner.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PassOwner(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Work that took longer than allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Label of the kernel variant, or of the first one of several dispatches.
    pub label: String,
    /// Dispatches of the submit; a single dispatch cannot be divided further.
    pub dispatches: usize,
    /// The measured time.
    pub duration: Duration,
    /// The predicted time; `None` for a dispatch that was never timed.
    pub predicted: Option<Duration>,
}

/// The time of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceTime {
    /// Time by GPU timestamps; without them, from the submit to the end of the wait.
    pub duration: Duration,
    /// Number of submits: 1, or 2 for the last piece of a pass with logits, which the
    /// second submit reads.
    pub submits: usize,
    /// Set if the piece took longer than allowed.
    pub overrun: Option<Overrun>,
}

/// An unfinished pass.
struct UnfinishedPass {
    owner: PassOwner,
    head_rows: HeadRows,
    body: Step,
    head: Step,
    at: Place,
    /// Holds the uploads until the first piece runs.
    uploads: Option<Encoder>,
}

/// The commands of a pass that are not yet submitted.
struct Rest {
    encoder: Encoder,
    /// Whether they contain the copies from the upload ring.
    holds_uploads: bool,
}

impl Rest {
    fn empty(gpu: &Gpu) -> Result<Rest> {
        Ok(Rest { encoder: gpu.encoder()?, holds_uploads: false })
    }
}

impl UnfinishedPass {
    /// Returns the encoder for the next piece. The first one begins with the uploads.
    fn next_encoder(&mut self, gpu: &Gpu) -> Result<Rest> {
        match self.uploads.take() {
            Some(encoder) => Ok(Rest { encoder, holds_uploads: true }),
            None => Rest::empty(gpu),
        }
    }

    fn segments<'r>(&self, recorded: &'r Recordings, deterministic: bool) -> [Segment<'r>; 2] {
        let [body, head] = recorded.chunk(self.body.n_rows as usize, self.head_rows, deterministic);
        [(body, work(self.body)), (head, work(self.head))]
    }
}

/// The result of a finished pass.
struct FinishedPass {
    owner: PassOwner,
    n_rows: usize,
    /// Empty if no logits were requested.
    logits: Result<Vec<f32>>,
}

/// The unfinished pass, and finished ones whose results are not yet taken.
#[derive(Default)]
pub(in crate::model) struct Unfinished {
    current: Option<UnfinishedPass>,
    finished: Vec<FinishedPass>,
    /// Memory for the next logits.
    spare: Vec<f32>,
    /// Created when a piece is first timed; `Some(None)` if the device has no timestamps.
    timestamps: Option<Option<Timestamps>>,
}

impl Forward {
    /// Returns the maximum rows of a chunk at `position` for which no dispatch is
    /// predicted to take longer than `limit`. The result is at least 1 and at most
    /// [`crate::model::Dims::chunk`].
    #[must_use]
    pub fn rows_within(&self, limit: Duration, position: usize) -> usize {
        let limit_ns = limit.as_nanos() as f64;
        let mut rows = self.dims.chunk;
        while rows > 1 {
            let step = Step { n_rows: rows as u32, kv_len: (position + rows) as u32, ..Step::default() };
            let ns = slowest(&self.cost, (&self.recordings.prefill, work(step)));
            if ns <= limit_ns {
                break;
            }
            rows = fewer_rows(rows, limit_ns / ns);
        }
        rows
    }

    /// Begins a pass of at most [`crate::model::Dims::chunk`] tokens at `position`.
    /// [`Forward::run_piece`] runs it. With `logits` it computes the logits of the last
    /// token. Another unfinished pass is finished first.
    ///
    /// # Errors
    /// As [`Forward::run`].
    ///
    /// # Panics
    /// As [`Forward::run`].
    pub fn begin_pass(
        &mut self,
        model: &Model,
        owner: PassOwner,
        pages: &mut PageLists,
        tokens: &[u32],
        position: usize,
        logits: bool,
    ) -> Result<()> {
        let (encoder, [body, head]) = self.begin(model, pages, tokens, position, false)?;
        let head_rows = if logits { HeadRows::Last } else { HeadRows::None };
        let (at, uploads) = (Place::default(), Some(encoder));
        let pass = UnfinishedPass { owner, head_rows, body, head, at, uploads };
        self.unfinished.current = Some(pass);
        Ok(())
    }

    /// Returns whether there is an unfinished pass, of any owner.
    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        self.unfinished.current.is_some()
    }

    /// Returns whether the unfinished pass has a next piece that is predicted to take at
    /// most `time_left`. A dispatch that was never timed does not fit.
    #[must_use]
    pub fn piece_fits(&self, model: &Model, time_left: Duration) -> bool {
        self.unfinished.current.as_ref().is_some_and(|pass| {
            let segments = pass.segments(&self.recordings, model.options.deterministic);
            piece_at(&self.cost, &segments, pass.at, time_left.as_nanos() as f64, false).len > 0
        })
    }

    /// Runs the part of the unfinished pass that fits `time_left` in one submit, but at
    /// least one dispatch. Waits for it and corrects the predictions. A piece that takes
    /// longer than `limit` is reported as an overrun. Returns `None` if there is no
    /// unfinished pass or if the piece failed. [`Forward::take_finished`] then returns
    /// the error to the owner.
    pub fn run_piece(&mut self, model: &Model, time_left: Duration, limit: Duration) -> Option<PieceTime> {
        let mut pass = self.unfinished.current.take()?;
        let result = self.timed_piece(model, &mut pass, time_left.min(model.options.max_submit), limit);
        let at_end = pass.at.is_end(&pass.segments(&self.recordings, model.options.deterministic));
        match result {
            Ok(mut time) => {
                if at_end {
                    time.submits += usize::from(pass.head_rows != HeadRows::None);
                    self.finish_pass(&model.gpu, pass, None);
                } else {
                    self.unfinished.current = Some(pass);
                }
                Some(time)
            }
            Err(error) => {
                self.add_finished(&pass, Err(error));
                None
            }
        }
    }

    fn timed_piece(
        &mut self,
        model: &Model,
        pass: &mut UnfinishedPass,
        time_left: Duration,
        limit: Duration,
    ) -> Result<PieceTime> {
        let segments = pass.segments(&self.recordings, model.options.deterministic);
        let (at, time_left_ns) = (pass.at, time_left.as_nanos() as f64);
        let piece = piece_at(&self.cost, &segments, at, time_left_ns, true);
        let timestamps = match &mut self.unfinished.timestamps {
            Some(made) => made,
            none => none.insert(Timestamps::new(&model.gpu, 1)?),
        };
        let Rest { mut encoder, holds_uploads } = pass.next_encoder(&model.gpu)?;
        let mut end = at;
        let started = Instant::now();
        let timed = match timestamps {
            Some(timestamps) => {
                encoder.timed_pass(timestamps, 0, |pass| end = encode(pass, &segments, at, piece));
                timestamps.submit_and_read(&model.gpu, encoder, 1).map(|times| times[0].duration_ns())
            }
            None => {
                encoder.pass(|pass| end = encode(pass, &segments, at, piece));
                model.gpu.finish(encoder).map(|()| 0)
            }
        };
        // After an error, the upload ring recovers data that was staged but not
        // submitted.
        let duration = timed?;
        if holds_uploads {
            self.ring.submitted(&model.gpu)?;
        }
        // 0 means that there are no timestamps, or that the counter wrapped around.
        let duration = match duration {
            0 => started.elapsed(),
            ns => Duration::from_nanos(ns),
        };
        pass.at = end;
        let overrun = (duration > limit).then(|| overrun(&segments, at, piece, duration));
        correct(&mut self.cost, &segments, at, piece, duration, pass.body.n_rows);
        Ok(PieceTime { duration, submits: 1, overrun: overrun.flatten() })
    }

    /// Finishes the unfinished pass, without waiting between its submits.
    pub(in crate::model) fn finish_unfinished(&mut self, model: &Model) {
        let Some(mut pass) = self.unfinished.current.take() else { return };
        match self.run_rest(model, &mut pass) {
            Ok(rest) => self.finish_pass(&model.gpu, pass, Some(rest)),
            Err(error) => self.add_finished(&pass, Err(error)),
        }
    }

    /// Runs the rest of a pass. Its last piece is only encoded, not submitted.
    fn run_rest(&mut self, model: &Model, pass: &mut UnfinishedPass) -> Result<Rest> {
        let segments = pass.segments(&self.recordings, model.options.deterministic);
        let Rest { encoder, holds_uploads } = pass.next_encoder(&model.gpu)?;
        let mut pieces = Pieces::new(&model.gpu, encoder, model.options.max_submit);
        pieces.run_from(&mut self.cost, &segments, pass.at)?;
        Ok(Rest { encoder: pieces.finish(), holds_uploads })
    }

    /// Submits the rest of a pass and reads its logits, if requested.
    fn finish_pass(&mut self, gpu: &Gpu, pass: UnfinishedPass, rest: Option<Rest>) {
        let mut logits = std::mem::take(&mut self.unfinished.spare);
        logits.clear();
        let result = self.read_last_logits(gpu, pass.head_rows, rest, &mut logits);
        self.add_finished(&pass, result.map(|()| logits));
    }

    fn read_last_logits(
        &mut self,
        gpu: &Gpu,
        head_rows: HeadRows,
        rest: Option<Rest>,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        if head_rows == HeadRows::None {
            match rest {
                Some(Rest { encoder, holds_uploads: true }) => self.submit(gpu, encoder)?,
                Some(Rest { encoder, holds_uploads: false }) => encoder.submit(gpu)?,
                None => {}
            }
            return self.check_f16_overflow(gpu);
        }
        let Rest { encoder, holds_uploads } = rest.map_or_else(|| Rest::empty(gpu), Ok)?;
        let bytes = self.vocab_size * 4;
        self.read_end(gpu, encoder, Slot::Logits, bytes, holds_uploads, |bytes| {
            logits.extend_from_slice(bytemuck::cast_slice(bytes));
        })
    }

    fn add_finished(&mut self, pass: &UnfinishedPass, logits: Result<Vec<f32>>) {
        let finished = FinishedPass { owner: pass.owner, n_rows: pass.body.n_rows as usize, logits };
        self.unfinished.finished.push(finished);
    }

    /// Returns the number of tokens of the owner's pass if it finished since the last
    /// call, otherwise `None`. The logits of a finished pass replace `logits`. If none
    /// were requested, `logits` becomes empty.
    ///
    /// # Errors
    /// The error of the pass.
    pub fn take_finished(&mut self, owner: PassOwner, logits: &mut Vec<f32>) -> Result<Option<usize>> {
        let Some(index) = self.unfinished.finished.iter().position(|pass| pass.owner == owner) else {
            return Ok(None);
        };
        let finished = self.unfinished.finished.remove(index);
        self.unfinished.spare = std::mem::replace(logits, finished.logits?);
        Ok(Some(finished.n_rows))
    }

    /// Discards the owner's pass, finished or not.
    pub fn abandon(&mut self, owner: PassOwner) {
        self.unfinished.current.take_if(|pass| pass.owner == owner);
        self.unfinished.finished.retain(|pass| pass.owner != owner);
    }
}

/// Returns the longest predicted time of the dispatches, in nanoseconds. Dispatches that
/// were never timed are ignored.
pub(super) fn slowest(cost: &CostModel, (dispatches, work): Segment<'_>) -> f64 {
    dispatches.iter().filter_map(|dispatch| cost_of(cost, dispatch, work)).fold(0.0, f64::max)
}

fn overrun(segments: &[Segment<'_>], at: Place, piece: Piece, duration: Duration) -> Option<Overrun> {
    let (first, _) = loads(segments, at, piece).next()?;
    Some(Overrun {
        label: first.label().to_owned(),
        dispatches: loads(segments, at, piece).count(),
        duration,
        predicted: (!piece.unknown).then(|| Duration::from_nanos(piece.ns as u64)),
    })
}

/// Corrects predictions by the measured time of a piece. A single dispatch corrects its
/// kind, or is the first sample if its time was unknown. Several dispatches correct the
/// lists.
fn correct(
    cost: &mut CostModel,
    segments: &[Segment<'_>],
    at: Place,
    piece: Piece,
    duration: Duration,
    n_rows: u32,
) {
    let ns = duration.as_nanos() as f64;
    let mut all = loads(segments, at, piece);
    match (all.next(), all.next()) {
        (Some((_, load)), None) if piece.unknown => cost.learn(load, ns),
        (Some((_, load)), None) => cost.correct_kind(load.kind, piece.ns, ns),
        (Some(_), Some(_)) => cost.correct_list(n_rows, piece.ns, ns),
        (None, _) => {}
    }
}
