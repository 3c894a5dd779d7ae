//! Predicts the time of dispatches from measured times.
//!
//! It uses only numbers: kinds of dispatches ([`crate::gpu::Dispatch::kind`]),
//! workgroups, cached positions, and nanoseconds.

/// Bounds on a correction. Other programs make a machine several times slower, but not
/// hundreds of times. If the GPU's clock was low during calibration, later work is
/// several times faster.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.25..=8.0;

/// Number of recent measurements; a correction is their median. On a shared machine some
/// pieces take many times longer than their work, and predictions must not follow them. A
/// slower device is detected after three measurements.
const RECENT: usize = 5;

/// The properties of a dispatch in one step that determine its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// The dispatch's kind.
    pub(super) kind: usize,
    /// Workgroups, over all dimensions.
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

/// `fixed + groups * (per_group + per_group_key * kv_len)`, with nonnegative
/// coefficients.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    fixed: f64,
    per_group: f64,
    per_group_key: f64,
}

impl Line {
    /// Fits a line that no sample exceeds. The difference between few and many workgroups
    /// gives `fixed` and `per_group`. If all samples have the same number of workgroups,
    /// the whole time counts per workgroup, so that larger grids are not underestimated.
    /// The remaining time of the sample with the most cached positions gives
    /// `per_group_key`. At the end, `fixed` is raised until no sample exceeds the line.
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

/// The factor on predictions: the median of the factors that would have been right for
/// recent measurements.
#[derive(Clone, Copy, Debug)]
struct Correction {
    recent: [f64; RECENT],
    next: usize,
}

impl Default for Correction {
    fn default() -> Self {
        Correction { recent: [1.0; RECENT], next: 0 }
    }
}

impl Correction {
    fn factor(&self) -> f64 {
        let mut sorted = self.recent;
        sorted.sort_by(f64::total_cmp);
        sorted[RECENT / 2]
    }

    /// Adds a measurement: the work took `ns`, and the prediction, including the factor,
    /// was `predicted_ns`.
    fn note(&mut self, predicted_ns: f64, ns: f64) {
        if predicted_ns <= 0.0 {
            return;
        }
        let right = self.factor() * ns / predicted_ns;
        self.recent[self.next] = right.clamp(*CORRECTION.start(), *CORRECTION.end());
        self.next = (self.next + 1) % RECENT;
    }
}

/// The measurements of one kind of dispatch.
#[derive(Clone, Debug, Default)]
struct Kind {
    /// Whether it has run. Some drivers compile a pipeline in its first run, which makes
    /// the time of that run useless.
    ran: bool,
    /// The fastest sample for each number of workgroups and positions. A slower sample of
    /// the same work waited for something else.
    samples: Vec<Sample>,
    line: Line,
    correction: Correction,
}

/// Predicts the time of dispatches, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct CostModel {
    kinds: Vec<Kind>,
    /// Corrections for lists of dispatches: in steps of one row, and of several rows.
    corrections: [Correction; 2],
}

impl CostModel {
    /// Returns the predicted nanoseconds of a dispatch; `None` for a kind that was never
    /// timed.
    pub(super) fn predict(&self, load: Load, n_rows: u32) -> Option<f64> {
        let kind = self.kinds.get(load.kind).filter(|kind| !kind.samples.is_empty())?;
        let ns = kind.line.at(load.groups as f64, f64::from(load.kv_len));
        Some(ns * kind.correction.factor() * self.corrections[usize::from(n_rows > 1)].factor())
    }

    fn kind(&mut self, kind: usize) -> &mut Kind {
        if self.kinds.len() <= kind {
            self.kinds.resize(kind + 1, Kind::default());
        }
        &mut self.kinds[kind]
    }

    /// Adds the time of a dispatch that ran in its own submit, unless it was the first of
    /// its kind.
    pub(super) fn learn(&mut self, load: Load, ns: f64) {
        let kind = self.kind(load.kind);
        if !std::mem::replace(&mut kind.ran, true) {
            return;
        }
        self.sample(load, ns);
    }

    /// Adds the time of a dispatch whose kind had run before.
    pub(super) fn sample(&mut self, load: Load, ns: f64) {
        // 0 would mean that nothing ran.
        let ns = ns.max(1.0);
        let sample = Sample { groups: load.groups as f64, kv_len: f64::from(load.kv_len), ns };
        let kind = self.kind(load.kind);
        kind.ran = true;
        let same = |known: &&mut Sample| known.groups == sample.groups && known.kv_len == sample.kv_len;
        match kind.samples.iter_mut().find(same) {
            Some(known) => known.ns = known.ns.min(ns),
            None => kind.samples.push(sample),
        }
        kind.line = Line::over(&kind.samples);
    }

    /// Corrects a kind by the time of a dispatch that ran in its own submit.
    pub(super) fn correct_kind(&mut self, kind: usize, predicted_ns: f64, ns: f64) {
        self.kind(kind).correction.note(predicted_ns, ns);
    }

    /// Corrects the lists by the time of several dispatches.
    pub(super) fn correct_list(&mut self, n_rows: u32, predicted_ns: f64, ns: f64) {
        self.corrections[usize::from(n_rows > 1)].note(predicted_ns, ns);
    }
}

/// The first part of some work that fits one submit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// Number of dispatches.
    pub(super) len: usize,
    /// Their predicted time in nanoseconds; 0 if unknown.
    pub(super) ns: f64,
    /// Whether it is a single dispatch of unknown time.
    pub(super) unknown: bool,
}

/// Returns the longest piece at the start of `costs` that takes at most `limit_ns`. If
/// nothing fits and `must` is set, the piece is the first dispatch. A dispatch of unknown
/// time (`None`) is a separate piece, and only if `must` is set. `Some(0.0)` is a
/// dispatch that is not encoded.
pub(super) fn first_piece(costs: impl Iterator<Item = Option<f64>>, limit_ns: f64, must: bool) -> Piece {
    let mut piece = Piece::default();
    for cost in costs {
        match cost {
            Some(ns) if piece.ns + ns <= limit_ns || (must && piece.ns == 0.0) => {
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

/// Returns a number of rows below `rows`, but at least 1, that takes at most `ratio`
/// times as long. Kernels work on whole tiles, so larger numbers are rounded down to
/// whole tiles.
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
    fn a_line_is_above_all_samples_and_extends_beyond_them() {
        let mut cost = CostModel::default();
        assert_eq!(cost.predict(load(1, 1), 1), None);
        // 500, 100 per workgroup, and 0.5 per workgroup and position.
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
        // The fastest of equal samples counts.
        let before = cost.predict(load(20, 1), 1);
        cost.sample(load(20, 1), 90_000.0);
        assert_eq!(cost.predict(load(20, 1), 1), before);
    }

    #[test]
    fn one_sample_scales_with_the_workgroups() {
        let mut cost = CostModel::default();
        cost.learn(load(4, 7), 1e9);
        assert_eq!(cost.predict(load(4, 7), 1), None, "the first run may have compiled");
        cost.learn(load(4, 7), 400.0);
        assert_eq!(cost.predict(load(8, 7), 1), Some(800.0));
    }

    #[test]
    fn corrections_follow_lasting_changes_and_are_bounded() {
        let mut cost = CostModel::default();
        let predict = |cost: &CostModel| cost.predict(load(1, 1), 1).unwrap();
        cost.sample(load(1, 1), 1_000.0);
        // Up to two outliers in five measurements change nothing.
        for ns in [9_000.0, 1_000.0, 1_000.0, 30_000.0, 1_000.0, 1_000.0, 5_000.0] {
            cost.correct_list(1, predict(&cost), ns);
            assert_eq!(predict(&cost), 1_000.0, "{ns}");
        }
        // Predictions follow a device that becomes three times slower, then faster.
        for _ in 0..RECENT {
            cost.correct_list(1, predict(&cost), 3_000.0);
        }
        assert!((predict(&cost) - 3_000.0).abs() < 1e-6);
        assert_eq!(cost.predict(load(1, 1), 2), Some(1_000.0), "several rows are another list");
        for _ in 0..RECENT {
            cost.correct_list(1, predict(&cost), 700.0);
        }
        assert!((predict(&cost) - 700.0).abs() < 1e-6);
        for (ns, most) in [(1e9, 64_000.0), (0.0, 62.5)] {
            for _ in 0..RECENT {
                cost.correct_kind(3, 1.0, ns);
                cost.correct_list(1, 1.0, ns);
            }
            for _ in 0..RECENT {
                cost.correct_kind(3, 1.0, ns);
                cost.correct_list(1, 1.0, ns);
            }
            assert_eq!(predict(&cost), most);
        }
        cost.correct_list(1, 0.0, 5.0);
        assert_eq!(predict(&cost), 62.5);
    }

    #[test]
    fn pieces_fit_unless_one_dispatch_is_too_long() {
        // A made-up pass: some dispatches are not encoded, some never timed, some too
        // long.
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
            // Timed dispatches separate those that were never timed.
            assert!(pieces >= 101, "{target}: {pieces}");
        }
        // Without `must`, a piece may be empty.
        assert_eq!(first_piece([Some(5.0)].into_iter(), 4.0, false), Piece::default());
        assert_eq!(first_piece([None].into_iter(), 4.0, false), Piece::default());
    }

    #[test]
    fn fewer_rows_form_whole_tiles() {
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
