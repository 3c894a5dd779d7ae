//! What dispatches cost: times that were measured, and what they foretell.
//!
//! Numbers alone: kinds of dispatches ([`crate::gpu::Dispatch::kind`]), workgroups,
//! cached positions, nanoseconds.

/// How far what runs may differ from what was calibrated: a machine that others use
/// too is some times slower, never hundreds of times; a clock that rests at first is
/// some times faster.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.25..=8.0;

/// The most that a correction rises by with one measurement, and the part of the way
/// that it falls: quickly, since what follows shall not be late as well, and more
/// slowly down, but never all at once, since something else may have had the machine
/// for a moment. A device that became eight times slower is followed in six.
const RISE: f64 = 1.5;
const FALL: f64 = 0.2;

/// A dispatch of one step, as its cost sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// The dispatch's kind.
    pub(super) kind: usize,
    /// Workgroups, all dimensions.
    pub(super) groups: u64,
    /// Positions in the cache.
    pub(super) kv_len: u32,
}

/// A measured dispatch.
#[derive(Clone, Copy, Debug)]
struct Sample {
    groups: f64,
    kv_len: f64,
    ns: f64,
}

/// `fixed + groups * (per_group + per_group_key * kv_len)`, none of them negative.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    fixed: f64,
    per_group: f64,
    per_group_key: f64,
}

impl Line {
    /// The line over all samples: what was measured is never above it. Workgroups
    /// explain what differs between few and many, then cached positions what remains
    /// of the longest. Where the number of workgroups did not differ nothing is taken
    /// for fixed, so that many are not thought too cheap.
    fn over(samples: &[Sample]) -> Line {
        let by = |a: &&Sample, b: &&Sample| (a.groups, a.kv_len).partial_cmp(&(b.groups, b.kv_len));
        let order = |a: &&Sample, b: &&Sample| by(a, b).unwrap_or(std::cmp::Ordering::Equal);
        let Some(few) = samples.iter().min_by(order) else { return Line::default() };
        let most = samples.iter().map(|sample| sample.groups).fold(0.0, f64::max);
        let many = samples.iter().filter(|sample| sample.groups == most).min_by(order).unwrap_or(few);
        let mut line = Line::default();
        if many.groups > few.groups {
            line.per_group = ((many.ns - few.ns) / (many.groups - few.groups)).max(0.0);
            line.fixed = (few.ns - line.per_group * few.groups).max(0.0);
        } else {
            line.per_group = few.ns / few.groups;
        }
        let above =
            |line: &Line, sample: &Sample| (sample.ns - line.at(sample.groups, sample.kv_len)).max(0.0);
        if let Some(longest) = samples.iter().max_by(|a, b| a.kv_len.total_cmp(&b.kv_len)) {
            line.per_group_key = above(&line, longest) / (longest.groups * longest.kv_len.max(1.0));
        }
        line.fixed += samples.iter().map(|sample| above(&line, sample)).fold(0.0, f64::max);
        line
    }

    fn at(&self, groups: f64, kv_len: f64) -> f64 {
        self.fixed + groups * (self.per_group + self.per_group_key * kv_len)
    }
}

/// What is known of one kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    /// Whether it ran: some drivers compile a pipeline when it runs first, so that
    /// the time of that run says nothing.
    ran: bool,
    /// The slowest for each number of workgroups and positions.
    samples: Vec<Sample>,
    line: Line,
    correction: f64,
}

/// Predicts how long dispatches take, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct CostModel {
    kinds: Vec<Kind>,
    /// Of steps of a row and of several: what lists of dispatches took beside what was
    /// predicted.
    corrections: [f64; 2],
}

impl Default for CostModel {
    fn default() -> Self {
        CostModel { kinds: Vec::new(), corrections: [1.0; 2] }
    }
}

impl CostModel {
    /// The nanoseconds that a dispatch will take; `None` for a kind that was never
    /// timed.
    pub(super) fn predict(&self, load: Load, n_rows: u32) -> Option<f64> {
        let kind = self.kinds.get(load.kind).filter(|kind| !kind.samples.is_empty())?;
        let ns = kind.line.at(load.groups as f64, f64::from(load.kv_len));
        Some(ns * kind.correction * self.corrections[usize::from(n_rows > 1)])
    }

    fn kind(&mut self, kind: usize) -> &mut Kind {
        if self.kinds.len() <= kind {
            self.kinds.resize(kind + 1, Kind { correction: 1.0, ..Kind::default() });
        }
        &mut self.kinds[kind]
    }

    /// Takes in how long a dispatch took that ran alone, unless it was the first of
    /// its kind.
    pub(super) fn learn(&mut self, load: Load, ns: f64) {
        let kind = self.kind(load.kind);
        if !std::mem::replace(&mut kind.ran, true) {
            return;
        }
        self.sample(load, ns);
    }

    /// Takes in how long a dispatch took whose kind had run before.
    pub(super) fn sample(&mut self, load: Load, ns: f64) {
        // 0 would mean that nothing ran.
        let ns = ns.max(1.0);
        let sample = Sample { groups: load.groups as f64, kv_len: f64::from(load.kv_len), ns };
        let kind = self.kind(load.kind);
        kind.ran = true;
        let same = |known: &&mut Sample| known.groups == sample.groups && known.kv_len == sample.kv_len;
        match kind.samples.iter_mut().find(same) {
            Some(known) => known.ns = known.ns.max(ns),
            None => kind.samples.push(sample),
        }
        kind.line = Line::over(&kind.samples);
    }

    /// Compares what a dispatch took that ran alone with what was predicted.
    pub(super) fn correct_kind(&mut self, kind: usize, predicted_ns: f64, ns: f64) {
        correct(&mut self.kind(kind).correction, predicted_ns, ns);
    }

    /// Compares what several dispatches took with what was predicted.
    pub(super) fn correct_list(&mut self, n_rows: u32, predicted_ns: f64, ns: f64) {
        correct(&mut self.corrections[usize::from(n_rows > 1)], predicted_ns, ns);
    }
}

/// Rises quickly, falls slowly, and stays within [`CORRECTION`].
fn correct(correction: &mut f64, predicted_ns: f64, ns: f64) {
    if predicted_ns <= 0.0 {
        return;
    }
    let ratio = ns / predicted_ns;
    let changed =
        if ratio > 1.0 { *correction * ratio.min(RISE) } else { *correction * (1.0 - FALL * (1.0 - ratio)) };
    *correction = changed.clamp(*CORRECTION.start(), *CORRECTION.end());
}

/// The beginning of some work that fits one submit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// Dispatches.
    pub(super) len: usize,
    /// Their predicted time; 0 where it is not known.
    pub(super) ns: f64,
    /// Whether it is a single dispatch of which no time is known.
    pub(super) unknown: bool,
}

/// The longest piece that begins `costs` and takes at most `room_ns`; where nothing
/// fits and `must` is set, the first dispatch alone. A dispatch of which no time is
/// known is a piece of its own. `Some(0.0)` stands for one that is not encoded.
pub(super) fn first_piece(costs: impl Iterator<Item = Option<f64>>, room_ns: f64, must: bool) -> Piece {
    let mut piece = Piece::default();
    for cost in costs {
        match cost {
            Some(ns) if piece.ns + ns <= room_ns || (must && piece.ns == 0.0) => {
                piece.len += 1;
                piece.ns += ns;
            }
            None if must && piece.ns == 0.0 => {
                return Piece { len: piece.len + 1, ns: 0.0, unknown: true };
            }
            _ => break,
        }
    }
    piece
}

/// The number of rows, fewer than `rows`, that takes `ratio` of their time or less:
/// whole tiles where there are several, as those are what kernels take.
pub(super) fn fewer_rows(rows: usize, ratio: f64) -> usize {
    let fit = ((rows as f64 * ratio) as usize).clamp(1, rows.saturating_sub(1).max(1));
    match fit {
        64.. => fit / 64 * 64,
        8.. => fit / 8 * 8,
        4.. => 4,
        _ => fit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(groups: u64, kv_len: u32) -> Load {
        Load { kind: 3, groups, kv_len }
    }

    #[test]
    fn a_line_lies_over_all_samples_and_goes_on_beyond_them() {
        let mut cost = CostModel::default();
        assert_eq!(cost.predict(load(1, 1), 1), None);
        // 500 + 100 a workgroup + 0.5 a workgroup and position.
        let truth = |groups: u64, kv_len: u32| 500.0 + groups as f64 * (100.0 + 0.5 * f64::from(kv_len));
        for (groups, kv_len) in [(2, 1), (20, 1), (20, 1000)] {
            cost.sample(load(groups, kv_len), truth(groups, kv_len));
            assert!(cost.predict(load(groups, kv_len), 1).unwrap() >= truth(groups, kv_len) - 1e-6);
        }
        for (groups, kv_len) in [(2, 1), (20, 1), (20, 1000), (200, 1), (200, 4000)] {
            let predicted = cost.predict(load(groups, kv_len), 1).unwrap();
            let ratio = predicted / truth(groups, kv_len);
            assert!((0.99..1.05).contains(&ratio), "{groups} {kv_len}: {ratio}");
        }
        // The slowest of equals counts, and what is odd raises all.
        cost.sample(load(20, 1), 9_000.0);
        cost.sample(load(20, 1), 10.0);
        assert!(cost.predict(load(20, 1), 1).unwrap() >= 9_000.0);
    }

    #[test]
    fn one_sample_says_that_all_grows_with_the_workgroups() {
        let mut cost = CostModel::default();
        cost.learn(load(4, 7), 1e9);
        assert_eq!(cost.predict(load(4, 7), 1), None, "the first run may have compiled");
        cost.learn(load(4, 7), 400.0);
        assert_eq!(cost.predict(load(8, 7), 1), Some(800.0));
    }

    #[test]
    fn corrections_rise_quickly_fall_slowly_and_are_bounded() {
        let mut cost = CostModel::default();
        cost.sample(load(1, 1), 1_000.0);
        cost.correct_list(1, 1_000.0, 1_400.0);
        assert_eq!(cost.predict(load(1, 1), 1), Some(1_400.0));
        cost.correct_list(1, 1_400.0, 1e9);
        let half_more = cost.predict(load(1, 1), 1).unwrap();
        assert!((half_more - 2_100.0).abs() < 1e-6, "one moment is no rule: {half_more}");
        assert_eq!(cost.predict(load(1, 1), 2), Some(1_000.0), "several rows are another list");
        cost.correct_list(1, 2_100.0, 700.0);
        let slowly = cost.predict(load(1, 1), 1).unwrap();
        assert!(slowly > 1_800.0 && slowly < 1_900.0, "{slowly}");
        for _ in 0..6 {
            cost.correct_kind(3, 1.0, 1e9);
            cost.correct_list(1, 1.0, 1e9);
        }
        assert_eq!(cost.predict(load(1, 1), 1), Some(64_000.0));
        for _ in 0..1_000 {
            cost.correct_kind(3, 1.0, 0.0);
            cost.correct_list(1, 1.0, 0.0);
        }
        assert_eq!(cost.predict(load(1, 1), 1), Some(62.5));
        cost.correct_list(1, 0.0, 5.0);
        assert_eq!(cost.predict(load(1, 1), 1), Some(62.5));
    }

    #[test]
    fn pieces_fit_unless_they_are_one_dispatch() {
        // A made-up pass, some of it not encoded, some never timed, some too long.
        let mut state = 9_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 16)
        };
        let costs: Vec<Option<f64>> = (0..500)
            .map(|i| match i % 10 {
                0 => Some(0.0),
                3 => None,
                _ => Some(random()),
            })
            .collect();
        for target in [0.0, 1.0, 30_000.0, 200_000.0, f64::INFINITY] {
            let (mut at, mut pieces, mut unknown) = (0, 0, 0);
            while at < costs.len() {
                let piece = first_piece(costs[at..].iter().copied(), target, true);
                assert!(piece.len > 0);
                let all = &costs[at..at + piece.len];
                let encoded = all.iter().filter(|cost| **cost != Some(0.0)).count();
                assert!(piece.ns <= target || encoded == 1, "{piece:?} at {at}");
                assert!(!piece.unknown || (encoded == 1 && all.last() == Some(&None)));
                assert_eq!(piece.ns, all.iter().flatten().sum::<f64>());
                unknown += usize::from(piece.unknown);
                at += piece.len;
                pieces += 1;
            }
            assert_eq!(unknown, 50);
            // Between dispatches that were never timed stand those that were.
            assert!(pieces >= 101, "{target}: {pieces}");
        }
        // Behind what is held already nothing need fit.
        assert_eq!(first_piece([Some(5.0)].into_iter(), 4.0, false), Piece::default());
        assert_eq!(first_piece([None].into_iter(), 4.0, false), Piece::default());
    }

    #[test]
    fn fewer_rows_are_fewer_and_whole_tiles() {
        for (rows, ratio, expected) in [
            (256, 0.6, 128),
            (256, 0.9999, 192),
            (64, 0.9, 56),
            (16, 0.4, 4),
            (8, 0.0, 1),
            (2, 0.9, 1),
            (1, 0.5, 1),
        ] {
            assert_eq!(fewer_rows(rows, ratio), expected, "{rows} {ratio}");
        }
    }
}
