//! What the losses of a training run say.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::CurvePoint;
use super::shape::{Place, base, lowest, noise, slope, spikes};
use crate::eval::statistics::median;

/// Fewer points of a line tell nothing.
const POINTS_MIN: usize = 4;
/// The validation loss rises where it does by so many standard deviations of the
/// noise, ...
const RISE_NOISE: f64 = 4.0;
/// ... and by this part of the lowest loss, over at least so many points behind it.
const RISE_PART: f64 = 0.005;
const RISE_POINTS: usize = 3;
/// Where the noise is not known: this part, and every one of at least so many
/// points higher than the one before.
const RISE_PART_OF_FEW: f64 = 0.02;
const RISE_POINTS_OF_FEW: usize = 2;
/// The last part of the run's steps over which a loss must fall to be falling, ...
const LAST: f64 = 0.25;
/// ... by this part of itself (of few points: the second), ...
const FALL_PART: f64 = 0.01;
const FALL_PART_OF_FEW: f64 = 0.02;
/// ... and by so many standard errors of the slope.
const FALL_ERRORS: f64 = 3.0;

/// One of the two losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// On the text that the model trains on.
    Train,
    /// On text held out.
    Validation,
}

impl Series {
    /// Its name in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Series::Train => "training",
            Series::Validation => "validation",
        }
    }
}

/// How a training run goes. The first of these that holds, on what is left without
/// spikes; of the validation loss where it has 4 points, else of the training loss:
///
/// 1. **diverged**: the last loss of either kind is NaN or infinite.
/// 2. **too few points**: neither loss has 4 points.
/// 3. **overfitting**, **rising**: step N is the lowest running median of three.
///    The loss rises from there on if the median of the last half of the points
///    behind N, of which there are 3 or more, lies above it by more than 4 standard
///    deviations of the noise and by more than 0.5 %. With fewer than 8 points noise
///    cannot be told from the line's bend; then every point behind the lowest one, of
///    which there are 2 or more, must lie above the one before, and the last one 2 %
///    above the lowest. It is overfitting where from step N on the median training
///    loss of the second half of the points is below that of the first; else the
///    training loss rises as well, or is not known.
/// 4. **still falling**: by the slope over the second half of the steps (median of
///    the slopes of all pairs of points) the loss falls by more than 1 % within a
///    quarter of the run, and by more than 3 standard errors of that slope; with
///    fewer than 8 points by more than 2 %.
/// 5. **healthy**: none of these; it has levelled off and does not rise.
///
/// The noise is the median of the differences of neighbouring second differences,
/// scaled to a standard deviation of independent errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Diagnosis {
    /// Nothing can be said.
    TooFewPoints {
        /// Finite losses of the kind that has more of them.
        n_points: usize,
        /// How many it takes.
        needed: usize,
    },
    /// The loss is not finite any more.
    Diverged {
        /// Which loss.
        series: Series,
        /// The first step of those to the end that are not finite.
        step: u64,
    },
    /// The validation loss rises while the training loss falls.
    Overfitting {
        /// The step of the lowest validation loss.
        from_step: u64,
        /// The validation loss there, in nats a token.
        lowest: f64,
        /// By how much it has risen since.
        rise: f64,
    },
    /// The loss rises, and no training loss falls meanwhile.
    Rising {
        /// Which loss.
        series: Series,
        /// The step of the lowest one.
        from_step: u64,
        /// The loss there, in nats a token.
        lowest: f64,
        /// By how much it has risen since.
        rise: f64,
    },
    /// The loss falls up to the end: training longer would help.
    StillFalling {
        /// Which loss.
        series: Series,
        /// By how much it fell within the last quarter of the steps, in nats a token.
        fall: f64,
    },
    /// The loss has levelled off and does not rise.
    Healthy {
        /// Which loss: by the training loss alone, overfitting is not seen.
        series: Series,
    },
}

/// A loss far above those around it: by more than 5 standard deviations of the noise
/// and 5 % (with fewer than 8 points by 20 %) above the median of up to five points
/// before and above that of up to five behind, or not finite between finite ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// Which loss.
    pub series: Series,
    /// The highest step of the spike.
    pub step: u64,
    /// The loss there, in nats a token.
    #[serde(with = "finite_or_word")]
    pub loss: f64,
    /// The higher of the medians on either side.
    pub level: f64,
}

/// A loss that must be there.
mod finite_or_word {
    use serde::{Deserializer, Serializer, de::Error};

    use super::super::loss;

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        loss::serialize(&Some(*value), serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        loss::deserialize(deserializer)?.ok_or_else(|| D::Error::custom("a loss is missing"))
    }
}

/// All that a curve says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// How the run goes.
    pub diagnosis: Diagnosis,
    /// By rising step; training before validation at the same one.
    pub spikes: Vec<Spike>,
}

/// What `points`, by rising step, say.
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
    // Of two that diverged, the one that did so first.
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

/// Steps and finite losses of one kind.
fn finite(points: &[CurvePoint], series: Series) -> Vec<Place> {
    let losses = points.iter().filter_map(|point| Some((point.step as f64, point.loss(series)?)));
    losses.filter(|place| place.1.is_finite()).collect()
}

/// The line without its spikes, and those.
fn without_spikes(series: Series, line: &[Place]) -> (Vec<Place>, Vec<Spike>) {
    let peaks = spikes(line);
    let spike = |&i: &usize| Spike { series, step: line[i].0 as u64, loss: line[i].1, level: base(line, i) };
    let rest = line.iter().enumerate().filter(|(i, _)| !peaks.contains(i)).map(|(_, place)| *place);
    (rest.collect(), peaks.iter().map(spike).collect())
}

/// Losses that are not finite, with finite ones behind.
fn interruptions(points: &[CurvePoint], series: Series, line: &[Place]) -> Vec<Spike> {
    let Some(&(last, _)) = line.last() else { return Vec::new() };
    let mut found: Vec<Spike> = Vec::new();
    let mut inside = false;
    for (point, loss) in points.iter().filter_map(|point| Some((point, point.loss(series)?))) {
        let step = point.step as f64;
        let broken = !loss.is_finite() && step < last;
        if broken && !inside {
            // The level behind, as nothing may stand before.
            let level = line.iter().find(|place| place.0 > step).map_or(f64::NAN, |place| place.1);
            found.push(Spike { series, step: point.step, loss, level });
        }
        inside = broken;
    }
    found
}

/// The first step of those to the end whose loss is not finite.
fn diverged(points: &[CurvePoint], series: Series) -> Option<u64> {
    let losses = points.iter().rev().filter_map(|point| Some((point.step, point.loss(series)?)));
    losses.take_while(|(_, loss)| !loss.is_finite()).last().map(|(step, _)| step)
}

/// From which step on a line rises, the loss there and the rise.
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

/// Whether the training loss falls from a step on.
fn falls_from(train: &[Place], step: f64) -> bool {
    let tail: Vec<f64> = train.iter().filter(|place| place.0 >= step).map(|place| place.1).collect();
    let (first, second) = tail.split_at(tail.len() / 2);
    // Of fewer than two points one half is empty, and its median NaN.
    median(second.iter().copied()) < median(first.iter().copied())
}

/// By how much a line falls within the last quarter of its steps, where it does.
fn fall(line: &[Place]) -> Option<f64> {
    let (first, last) = (line.first()?.0, line.last()?.0);
    let half = line.partition_point(|place| place.0 < first + (last - first) / 2.0);
    // A slope takes three points at least.
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

/// The root of the sum of the squared distances of a line's steps from their mean: the
/// noise over it is the standard error of a fitted slope.
fn spread(line: &[Place]) -> f64 {
    let mean = line.iter().map(|place| place.0).sum::<f64>() / line.len() as f64;
    line.iter().map(|place| (place.0 - mean).powi(2)).sum::<f64>().sqrt()
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnosis::TooFewPoints { n_points, needed } => {
                write!(f, "too few points to say: {n_points}, and it takes {needed}")
            }
            Diagnosis::Diverged { series, step } => {
                write!(f, "diverged: from step {step} on the {} loss is not finite", series.name())
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
                "healthy: the training loss has levelled off; without a validation loss overfitting is not seen",
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
