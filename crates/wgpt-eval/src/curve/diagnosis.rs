//! Diagnosis of a training run from its losses.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::CurvePoint;
use super::shape::{Place, base, lowest, noise, slope, spikes};
use crate::statistics::median;

/// Minimum number of points for a diagnosis.
const POINTS_MIN: usize = 4;
/// A rise exceeds the lowest loss by more than this many standard deviations of the noise.
const RISE_NOISE: f64 = 4.0;
/// A rise exceeds the lowest loss by more than this fraction of it, over at least
/// `RISE_POINTS` points after it.
const RISE_PART: f64 = 0.005;
const RISE_POINTS: usize = 3;
/// If the noise is unknown, a rise exceeds the lowest loss by more than this fraction of
/// it, and each of at least `RISE_POINTS_OF_FEW` points is higher than the one before.
const RISE_PART_OF_FEW: f64 = 0.02;
const RISE_POINTS_OF_FEW: usize = 2;
/// Whether a loss is still falling is decided over this last fraction of the run's steps.
const LAST: f64 = 0.25;
/// A falling loss falls by more than this fraction of itself, or by more than
/// `FALL_PART_OF_FEW` if the noise is unknown.
const FALL_PART: f64 = 0.01;
const FALL_PART_OF_FEW: f64 = 0.02;
/// A falling loss falls by more than this many standard errors of the slope.
const FALL_ERRORS: f64 = 3.0;

/// One of the two kinds of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Loss on the training text.
    Train,
    /// Loss on held-out text.
    Validation,
}

impl Series {
    /// Returns the name for use in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Series::Train => "training",
            Series::Validation => "validation",
        }
    }
}

/// Diagnosis of a training run: the first of these rules that applies. Rules 2 to 5
/// ignore spikes and non-finite losses. Rules 3 to 5 use the validation loss if it has 4
/// points, otherwise the training loss.
///
/// 1. **diverged**: the last loss of either kind is NaN or infinite.
/// 2. **too few points**: neither loss has 4 points.
/// 3. **overfitting**, **rising**: N is the step with the lowest running median of three.
///    At least 3 points must follow N. The loss rises from N on if the median of the last
///    half of these points exceeds the lowest running median by more than 4 standard
///    deviations of the noise and by more than 0.5 %. With fewer than 8 points, noise
///    cannot be distinguished from the curve's bend. Then N is the lowest point, at least
///    2 points must follow it, each must be higher than the one before, and the last must
///    exceed the lowest by more than 2 %. The rise is overfitting if the median training
///    loss of the points from N on is lower in their second half than in their first.
///    Otherwise the training loss also rises, or it is unknown.
/// 4. **still falling**: by the slope over the second half of the steps (median of the
///    slopes of all pairs of points), the loss falls within a quarter of the run by more
///    than 1 % and by more than 3 standard errors of that slope. With fewer than 8
///    points, it must fall by more than 2 %.
/// 5. **healthy**: no other rule applies. The loss has levelled off and does not rise.
///
/// The noise is the median absolute difference of neighbouring second differences, scaled
/// to the standard deviation of independent errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Diagnosis {
    /// There are too few points for a diagnosis.
    TooFewPoints {
        /// Number of finite losses, of the kind that has more of them.
        n_points: usize,
        /// Number of losses that a diagnosis needs.
        needed: usize,
    },
    /// The loss is no longer finite.
    Diverged {
        /// Kind of loss.
        series: Series,
        /// First step at and after which no loss is finite.
        step: u64,
    },
    /// The validation loss rises while the training loss falls.
    Overfitting {
        /// Step of the lowest validation loss.
        from_step: u64,
        /// Validation loss at that step, in nats per token.
        lowest: f64,
        /// Rise of the loss since that step, in nats per token.
        rise: f64,
    },
    /// The loss rises, and no training loss is known to fall at the same time.
    Rising {
        /// Kind of loss.
        series: Series,
        /// Step of the lowest loss.
        from_step: u64,
        /// Loss at that step, in nats per token.
        lowest: f64,
        /// Rise of the loss since that step, in nats per token.
        rise: f64,
    },
    /// The loss falls up to the end: longer training would help.
    StillFalling {
        /// Kind of loss.
        series: Series,
        /// Fall within the last quarter of the steps, in nats per token.
        fall: f64,
    },
    /// The loss has levelled off and does not rise.
    Healthy {
        /// Kind of loss. Overfitting cannot be seen in the training loss.
        series: Series,
    },
}

/// A loss far above its neighbours, or a non-finite loss followed by finite ones. The
/// loss is compared with two medians: of up to five points before it and of up to five
/// after it. It must exceed the higher median by more than 5 standard deviations of the
/// noise and by more than 5 %. With fewer than 8 points, it must exceed it by more than
/// 20 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// Kind of loss.
    pub series: Series,
    /// Step of the spike's highest loss.
    pub step: u64,
    /// Loss at that step, in nats per token.
    #[serde(with = "finite_or_word")]
    pub loss: f64,
    /// Higher of the medians before and after; for a non-finite loss the first finite
    /// loss after it.
    pub level: f64,
}

/// Serialization of a loss that must be present.
mod finite_or_word {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::super::loss;

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        loss::serialize(&Some(*value), serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        loss::deserialize(deserializer)?.ok_or_else(|| D::Error::custom("a loss is missing"))
    }
}

/// All findings about a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Diagnosis of the run.
    pub diagnosis: Diagnosis,
    /// Spikes in ascending order of steps; at the same step, training precedes
    /// validation.
    pub spikes: Vec<Spike>,
}

/// Diagnoses `points`, which are in ascending order of steps.
pub(super) fn diagnose(points: &[CurvePoint]) -> Findings {
    let mut spikes = Vec::new();
    let mut take = |series| {
        let line = finite(points, series);
        let (rest, mut found) = without_spikes(series, &line);
        found.extend(interruptions(points, series, &rest));
        spikes.extend(found);
        rest
    };
    let (train, validation) = (take(Series::Train), take(Series::Validation));
    spikes.sort_by_key(|spike| spike.step);
    Findings { diagnosis: trend(points, &train, &validation), spikes }
}

fn trend(points: &[CurvePoint], train: &[Place], validation: &[Place]) -> Diagnosis {
    // If both losses diverged, report the one that diverged first.
    let diverged = [Series::Train, Series::Validation]
        .into_iter()
        .filter_map(|series| Some((diverged(points, series)?, series)))
        .min_by_key(|(step, _)| *step);
    if let Some((step, series)) = diverged {
        return Diagnosis::Diverged { series, step };
    }
    let (series, line) = if validation.len() >= POINTS_MIN {
        (Series::Validation, validation)
    } else if train.len() >= POINTS_MIN {
        (Series::Train, train)
    } else {
        let n_points = train.len().max(validation.len());
        return Diagnosis::TooFewPoints { n_points, needed: POINTS_MIN };
    };
    if let Some((from, lowest, rise)) = rise(line) {
        let from_step = from as u64;
        return if series == Series::Validation && falls_from(train, from) {
            Diagnosis::Overfitting { from_step, lowest, rise }
        } else {
            Diagnosis::Rising { series, from_step, lowest, rise }
        };
    }
    match fall(line) {
        Some(fall) => Diagnosis::StillFalling { series, fall },
        None => Diagnosis::Healthy { series },
    }
}

/// Returns steps and finite losses of one kind.
fn finite(points: &[CurvePoint], series: Series) -> Vec<Place> {
    let losses = points.iter().filter_map(|point| Some((point.step as f64, point.loss(series)?)));
    losses.filter(|place| place.1.is_finite()).collect()
}

/// Returns the line without its spikes, and the spikes.
fn without_spikes(series: Series, line: &[Place]) -> (Vec<Place>, Vec<Spike>) {
    let peaks = spikes(line);
    let spike = |&i: &usize| Spike { series, step: line[i].0 as u64, loss: line[i].1, level: base(line, i) };
    let rest = line.iter().enumerate().filter(|(i, _)| !peaks.contains(i)).map(|(_, place)| *place);
    (rest.collect(), peaks.iter().map(spike).collect())
}

/// Returns the non-finite losses that finite ones follow.
fn interruptions(points: &[CurvePoint], series: Series, line: &[Place]) -> Vec<Spike> {
    let Some(&(last, _)) = line.last() else { return Vec::new() };
    let mut found: Vec<Spike> = Vec::new();
    let mut inside = false;
    for (point, loss) in points.iter().filter_map(|point| Some((point, point.loss(series)?))) {
        let step = point.step as f64;
        let broken = !loss.is_finite() && step < last;
        if broken && !inside {
            // Use the level after the gap, since there may be no point before it.
            let level = line.iter().find(|place| place.0 > step).map_or(f64::NAN, |place| place.1);
            found.push(Spike { series, step: point.step, loss, level });
        }
        inside = broken;
    }
    found
}

/// Returns the first step at and after which no loss is finite.
fn diverged(points: &[CurvePoint], series: Series) -> Option<u64> {
    let losses = points.iter().rev().filter_map(|point| Some((point.step, point.loss(series)?)));
    losses.take_while(|(_, loss)| !loss.is_finite()).last().map(|(step, _)| step)
}

/// Returns the step from which on a line rises, the loss at that step, and the rise.
fn rise(line: &[Place]) -> Option<(f64, f64, f64)> {
    let Some(noise) = noise(line) else {
        let (from, _) = line.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
        let tail = &line[from..];
        let (lowest, rise) = (tail[0].1, tail[tail.len() - 1].1 - tail[0].1);
        let rises = tail.len() > RISE_POINTS_OF_FEW && tail.is_sorted_by(|a, b| a.1 < b.1);
        return (rises && rise > RISE_PART_OF_FEW * lowest.abs()).then_some((tail[0].0, lowest, rise));
    };
    let (from, lowest) = lowest(line)?;
    let behind = &line[from + 1..];
    if behind.len() < RISE_POINTS {
        return None;
    }
    let rise = median(behind[behind.len() / 2..].iter().map(|place| place.1)) - lowest;
    (rise > (RISE_NOISE * noise).max(RISE_PART * lowest.abs())).then_some((line[from].0, lowest, rise))
}

/// Returns whether the training loss falls from `step` on.
fn falls_from(train: &[Place], step: f64) -> bool {
    let tail: Vec<f64> = train.iter().filter(|place| place.0 >= step).map(|place| place.1).collect();
    let (first, second) = tail.split_at(tail.len() / 2);
    // With fewer than two points, one half is empty and its median is NaN.
    median(second.iter().copied()) < median(first.iter().copied())
}

/// Returns by how much a line falls within the last quarter of its steps, or `None` if it
/// does not fall.
fn fall(line: &[Place]) -> Option<f64> {
    let (first, last) = (line.first()?.0, line.last()?.0);
    let half = line.partition_point(|place| place.0 < first + (last - first) / 2.0);
    // A slope needs at least three points.
    let tail = &line[half.min(line.len().saturating_sub(3))..];
    let quarter = LAST * (last - first);
    let fall = -slope(tail) * quarter;
    let level = median(line[line.len().saturating_sub(3)..].iter().map(|place| place.1)).abs();
    let least = match noise(line) {
        Some(noise) => (FALL_PART * level).max(FALL_ERRORS * noise * quarter / spread(tail)),
        None => FALL_PART_OF_FEW * level,
    };
    (fall > least).then_some(fall)
}

/// Returns the square root of the sum of squared distances between the line's steps and
/// their mean. The noise divided by it is the standard error of a fitted slope.
fn spread(line: &[Place]) -> f64 {
    let mean = line.iter().map(|place| place.0).sum::<f64>() / line.len() as f64;
    line.iter().map(|place| (place.0 - mean).powi(2)).sum::<f64>().sqrt()
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnosis::TooFewPoints { n_points, needed } => {
                write!(f, "too few points: {n_points}, but a verdict needs {needed}")
            }
            Diagnosis::Diverged { series, step } => {
                write!(f, "diverged: the {} loss is not finite from step {step} on", series.name())
            }
            Diagnosis::Overfitting { from_step, lowest, rise } => write!(
                f,
                "overfitting from step {from_step} on: the validation loss rose by {rise:.3} from {lowest:.3} \
                 while the training loss fell"
            ),
            Diagnosis::Rising { series, from_step, lowest, rise } => write!(
                f,
                "rising from step {from_step} on: the {} loss rose by {rise:.3} from {lowest:.3}",
                series.name()
            ),
            Diagnosis::StillFalling { series, fall } => write!(
                f,
                "still falling: the {} loss fell by {fall:.3} within the last quarter of the steps",
                series.name()
            ),
            Diagnosis::Healthy { series: Series::Validation } => {
                f.write_str("healthy: the validation loss has levelled off and does not rise")
            }
            Diagnosis::Healthy { series: Series::Train } => f.write_str(
                "healthy: the training loss has levelled off; without a validation loss, overfitting cannot \
                 be detected",
            ),
        }
    }
}

impl fmt::Display for Spike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spike { series, step, loss, level } = self;
        write!(f, "spike at step {step}: {} loss {loss:.3}, {level:.3} around it", series.name())
    }
}
