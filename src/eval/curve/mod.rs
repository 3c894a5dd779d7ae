//! Losses along a training run: read from a log or computed from checkpoints, and
//! what they say about it.
//!
//! A [`Curve`] holds the losses by step; [`Curve::diagnose`] reads it by a stated
//! rule, [`Curve::budget`] sets the tokens beside what Hoffmann et al. 2022 found
//! to be enough. [`read_log`] takes the losses from a file, [`evaluate`] computes
//! them from checkpoints ([`find_checkpoints`]) on texts of one's own.

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

use crate::error::{Error, Result};

/// Training tokens for each parameter at which a model of a given cost is best:
/// Hoffmann et al. 2022 ("Training compute-optimal large language models"), whose
/// three ways of fitting all lead to about 20.
pub const CHINCHILLA_RATIO: f64 = 20.0;

/// Losses at one step of a training run, in nats a token.
///
/// Losses that are not finite are kept: a run that diverged has them. In JSON they
/// are the strings "NaN", "Infinity" and "-Infinity".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Optimizer steps so far.
    pub step: u64,
    /// Tokens trained on so far, repeated ones counted, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Loss on the text that the model trains on.
    #[serde(default, with = "loss")]
    pub train: Option<f64>,
    /// Loss on text held out.
    #[serde(default, with = "loss")]
    pub validation: Option<f64>,
}

impl CurvePoint {
    /// One of the two losses.
    #[must_use]
    pub fn loss(&self, series: Series) -> Option<f64> {
        match series {
            Series::Train => self.train,
            Series::Validation => self.validation,
        }
    }
}

/// Losses along a training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// By rising step, each once.
    points: Vec<CurvePoint>,
    /// Tokens of one step, where they are known.
    pub tokens_per_step: Option<f64>,
    /// Parameters of the model, where they are known.
    pub n_parameters: Option<u64>,
}

impl Curve {
    /// A curve through `points` in any order. Points of one step are joined where
    /// they hold different losses, as logs write training and validation apart.
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

    /// The losses by rising step.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    /// Tokens trained on up to one of the points: what the point says, else its step
    /// times the tokens of a step.
    #[must_use]
    pub fn tokens(&self, point: &CurvePoint) -> Option<u64> {
        point.tokens.or_else(|| Some((self.tokens_per_step? * point.step as f64).round() as u64))
    }

    /// What the losses say; the rule stands at [`Diagnosis`].
    #[must_use]
    pub fn diagnose(&self) -> Findings {
        diagnosis::diagnose(&self.points)
    }

    /// Tokens of the run for each parameter; `None` where either is not known.
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
                "step {} has two {name} losses, {a} and {b}: keep one run and each of its steps once",
                point.step
            )));
        }
        *mine = mine.or(theirs);
    }
    point.tokens = point.tokens.or(other.tokens);
    Ok(())
}

/// Tokens of a run beside the size of its model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Tokens trained on, repeated ones counted.
    pub tokens: u64,
    /// Parameters of the model, embeddings included.
    pub n_parameters: u64,
    /// Their quotient.
    pub tokens_per_parameter: f64,
    /// [`CHINCHILLA_RATIO`]
    pub chinchilla_ratio: f64,
}
