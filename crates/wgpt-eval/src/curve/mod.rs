//! Losses of a training run, read from a log or computed from checkpoints, and their
//! diagnosis.
//!
//! A [`Curve`] holds the losses by step. [`Curve::diagnose`] diagnoses them by a documented
//! rule. [`Curve::budget`] compares the number of tokens with the compute-optimal number of
//! Hoffmann et al. 2022. [`read_log`] reads the losses from a file. [`evaluate`]
//! computes them from checkpoints ([`find_checkpoints`]) on the caller's texts.

mod checkpoints;
mod diagnosis;
mod evaluate;
mod log;
mod loss;
mod shape;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use checkpoints::{CheckpointPath, FoundCheckpoints, find_checkpoints, sort_checkpoints};
pub use diagnosis::{Diagnosis, Findings, Series, Spike};
pub use evaluate::{CurveEvaluation, CurveOptions, CurveProgress, CurveStage, CurveTexts, evaluate};
pub use log::{parse_log, read_log};

use wgpt::{Error, Result};

/// Training tokens per parameter at which a model of a given compute cost is best.
/// Hoffmann et al. 2022 ("Training compute-optimal large language models") fit this ratio
/// in three ways, which all give about 20.
pub const CHINCHILLA_RATIO: f64 = 20.0;

/// Losses at one step of a training run, in nats per token.
///
/// Non-finite losses are kept, since a run that diverged has them. In JSON they are the
/// strings "NaN", "Infinity" and "-Infinity".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of optimizer steps so far.
    pub step: u64,
    /// Tokens trained on so far, counting repeated ones, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Loss on the training text.
    #[serde(default, with = "loss")]
    pub train: Option<f64>,
    /// Loss on held-out text.
    #[serde(default, with = "loss")]
    pub validation: Option<f64>,
}

impl CurvePoint {
    /// Returns one of the two losses.
    #[must_use]
    pub fn loss(&self, series: Series) -> Option<f64> {
        match series {
            Series::Train => self.train,
            Series::Validation => self.validation,
        }
    }
}

/// Losses of a training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// In ascending order of steps, each step once.
    points: Vec<CurvePoint>,
    /// Tokens per step, if known.
    pub tokens_per_step: Option<f64>,
    /// Parameters of the model, if known.
    pub n_parameters: Option<u64>,
}

impl Curve {
    /// Creates a curve from `points` in any order. Points of the same step are merged if
    /// they hold different kinds of loss, since logs write training and validation losses
    /// in separate entries.
    ///
    /// # Errors
    /// [`Error::Input`] for a step with two losses of one kind.
    pub fn new(points: impl IntoIterator<Item = CurvePoint>) -> Result<Self> {
        let mut all: Vec<CurvePoint> = points.into_iter().collect();
        all.sort_by_key(|point| point.step);
        let mut points: Vec<CurvePoint> = Vec::with_capacity(all.len());
        for point in all {
            match points.last_mut() {
                Some(last) if last.step == point.step => join(last, &point)?,
                _ => points.push(point),
            }
        }
        let known = points.iter().rev().find(|point| point.step > 0 && point.tokens.is_some());
        let tokens_per_step = known.and_then(|point| Some(point.tokens? as f64 / point.step as f64));
        Ok(Curve { points, tokens_per_step, n_parameters: None })
    }

    /// Returns the losses in ascending order of steps.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    /// Returns the tokens trained on up to a point: the point's own number, otherwise its
    /// step times the tokens per step.
    #[must_use]
    pub fn tokens(&self, point: &CurvePoint) -> Option<u64> {
        point.tokens.or_else(|| Some((self.tokens_per_step? * point.step as f64).round() as u64))
    }

    /// Diagnoses the losses by the rule documented at [`Diagnosis`].
    #[must_use]
    pub fn diagnose(&self) -> Findings {
        diagnosis::diagnose(&self.points)
    }

    /// Returns the run's tokens per parameter, or `None` if either number is unknown.
    #[must_use]
    pub fn budget(&self) -> Option<Budget> {
        let tokens = self.points.iter().filter_map(|point| self.tokens(point)).max()?;
        let n_parameters = self.n_parameters.filter(|&n| n > 0)?;
        let tokens_per_parameter = tokens as f64 / n_parameters as f64;
        Some(Budget { tokens, n_parameters, tokens_per_parameter, chinchilla_ratio: CHINCHILLA_RATIO })
    }
}

fn join(point: &mut CurvePoint, other: &CurvePoint) -> Result<()> {
    for (name, mine, theirs) in
        [("training", &mut point.train, other.train), ("validation", &mut point.validation, other.validation)]
    {
        if let (Some(a), Some(b)) = (*mine, theirs) {
            return Err(Error::input(format!(
                "step {} has two {name} losses, {a} and {b}: give a log of one run, with each step once",
                point.step
            )));
        }
        *mine = mine.or(theirs);
    }
    point.tokens = point.tokens.or(other.tokens);
    Ok(())
}

/// Tokens of a run in relation to the size of its model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Tokens trained on, counting repeated ones.
    pub tokens: u64,
    /// Parameters of the model, including embeddings.
    pub n_parameters: u64,
    /// Tokens divided by parameters.
    pub tokens_per_parameter: f64,
    /// The value of [`CHINCHILLA_RATIO`].
    pub chinchilla_ratio: f64,
}
