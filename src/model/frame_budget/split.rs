//! Divides a pass into pieces, which are runs of dispatches with a bounded time per
//! submit.

use std::time::{Duration, Instant};

use super::cost::{CostModel, Load, Piece, first_piece};
use crate::error::Result;
use crate::gpu::{Dispatch, Encoder, Gpu, Pass, Work};

/// Dispatches of a pass that share a step.
pub(in crate::model) type Segment<'a> = (&'a [Dispatch], Work);

/// A position in the segments of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    segment: usize,
    dispatch: usize,
}

impl Place {
    /// Returns whether no dispatch follows this place.
    pub(super) fn is_end(self, segments: &[Segment<'_>]) -> bool {
        let rest = segments.iter().skip(self.segment).map(|(dispatches, _)| dispatches.len());
        rest.sum::<usize>() == self.dispatch
    }

    /// Returns the place `n` dispatches later.
    fn forward(self, segments: &[Segment<'_>], n: usize) -> Place {
        let Place { mut segment, dispatch } = self;
        let mut ahead = dispatch + n;
        while let Some((dispatches, _)) = segments.get(segment).filter(|(all, _)| all.len() <= ahead) {
            ahead -= dispatches.len();
            segment += 1;
        }
        Place { segment, dispatch: ahead }
    }

    /// Returns the dispatches from here on.
    fn rest<'s, 'd: 's>(
        self,
        segments: &'s [Segment<'d>],
    ) -> impl Iterator<Item = (&'d Dispatch, Work)> + use<'s, 'd> {
        let all = segments.iter().skip(self.segment);
        all.flat_map(|(dispatches, work)| dispatches.iter().map(|dispatch| (dispatch, *work)))
            .skip(self.dispatch)
    }
}

/// Returns the load of a dispatch in a step; `None` if its grid is empty.
pub(super) fn load(dispatch: &Dispatch, work: Work) -> Option<Load> {
    let groups = dispatch.workgroups(work).iter().map(|&n| u64::from(n)).product();
    (groups > 0).then(|| Load { kind: dispatch.kind(), groups, kv_len: work.kv_len })
}

/// Returns the predicted nanoseconds: 0 for an empty grid, `None` if unknown.
pub(super) fn cost_of(cost: &CostModel, dispatch: &Dispatch, work: Work) -> Option<f64> {
    load(dispatch, work).map_or(Some(0.0), |load| cost.predict(load, work.n_rows))
}

/// Returns the piece that begins at `at`, by the rules of [`first_piece`].
pub(super) fn piece_at(
    cost: &CostModel,
    segments: &[Segment<'_>],
    at: Place,
    limit_ns: f64,
    must: bool,
) -> Piece {
    let costs = at.rest(segments).map(|(dispatch, work)| cost_of(cost, dispatch, work));
    first_piece(costs, limit_ns, must)
}

/// Returns the dispatches of a piece, without those whose grids are empty.
pub(super) fn loads<'s, 'd: 's>(
    segments: &'s [Segment<'d>],
    at: Place,
    piece: Piece,
) -> impl Iterator<Item = (&'d Dispatch, Load)> + use<'s, 'd> {
    let all = at.rest(segments).take(piece.len);
    all.filter_map(|(dispatch, work)| load(dispatch, work).map(|load| (dispatch, load)))
}

/// Encodes a piece; returns the place after it.
pub(super) fn encode(pass: &mut Pass<'_>, segments: &[Segment<'_>], at: Place, piece: Piece) -> Place {
    let (mut place, end) = (at, at.forward(segments, piece.len));
    while place != end {
        let (dispatches, work) = segments[place.segment];
        let stop = if place.segment == end.segment { end.dispatch } else { dispatches.len() };
        pass.run(&dispatches[place.dispatch..stop], work);
        place = place.forward(segments, stop - place.dispatch);
    }
    end
}

/// Encodes passes, and submits early enough that no submit takes too long. It waits only
/// for dispatches of unknown time.
pub(in crate::model) struct Pieces<'g> {
    gpu: &'g Gpu,
    encoder: Encoder,
    target_ns: f64,
    /// Predicted time of the encoder's contents.
    held_ns: f64,
}

impl<'g> Pieces<'g> {
    /// Continues with `encoder`. A submit should take at most `target`.
    pub(in crate::model) fn new(gpu: &'g Gpu, encoder: Encoder, target: Duration) -> Self {
        Pieces { gpu, encoder, target_ns: target.as_nanos() as f64, held_ns: 0.0 }
    }

    /// Returns the encoder, for copies between passes.
    pub(in crate::model) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Returns the encoder with the last piece, for a readback and the submit.
    pub(in crate::model) fn finish(self) -> Encoder {
        self.encoder
    }

    /// Encodes a pass. Allocates nothing except what wgpu allocates for encoders.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    pub(in crate::model) fn run(&mut self, cost: &mut CostModel, segments: &[Segment<'_>]) -> Result<()> {
        self.run_from(cost, segments, Place::default())
    }

    /// As [`Pieces::run`], but starts at a given place.
    pub(super) fn run_from(
        &mut self,
        cost: &mut CostModel,
        segments: &[Segment<'_>],
        mut at: Place,
    ) -> Result<()> {
        while !at.is_end(segments) {
            let piece = piece_at(cost, segments, at, self.target_ns - self.held_ns, self.held_ns == 0.0);
            if piece.len == 0 {
                self.submit()?;
            } else if piece.unknown {
                at = self.run_unknown(cost, segments, at, piece)?;
            } else {
                self.encoder.pass(|pass| at = encode(pass, segments, at, piece));
                self.held_ns += piece.ns;
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        self.held_ns = 0.0;
        self.encoder.replace(self.gpu, |full| full.submit(self.gpu))
    }

    /// Runs a single dispatch and measures its time by the host's clock.
    fn run_unknown(
        &mut self,
        cost: &mut CostModel,
        segments: &[Segment<'_>],
        at: Place,
        piece: Piece,
    ) -> Result<Place> {
        // The time of earlier submits must not count for this dispatch.
        self.gpu.flush()?;
        let mut end = at;
        self.encoder.pass(|pass| end = encode(pass, segments, at, piece));
        let ns = self.encoder.replace(self.gpu, |encoder| {
            let started = Instant::now();
            self.gpu.finish(encoder)?;
            Ok(started.elapsed().as_nanos() as f64)
        })?;
        for (_, load) in loads(segments, at, piece) {
            cost.learn(load, ns);
        }
        Ok(end)
    }
}
