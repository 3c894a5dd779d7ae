//! What an evaluation found, and what it cost.

use serde::{Deserialize, Serialize};

use super::dataset::Task;
use super::question::Convention;
use super::results::{Answer, Figures, GroupFigures, SubjectFigures};

/// Whether endings share the context that they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each context runs once, and neighbours keep what they begin with in common.
    #[default]
    Shared,
    /// Each ending runs behind a context of its own: the other side of a measurement.
    Apart,
    /// Batch by batch both, timed; the results are those of the first.
    Measured,
}

/// What an evaluation cost, and what sharing saved. Answers that a resume file held cost
/// nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Whether contexts were shared.
    pub sharing: Sharing,
    /// Tokens that were run through the model.
    pub tokens: u64,
    /// Tokens that are run when each ending has a context of its own.
    pub tokens_apart: u64,
    /// Seconds that the model took; tokenizing is not among them.
    pub seconds: f64,
    /// [`Sharing::Measured`]: what both ways took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Gain>,
}

/// Both ways over the same batches; the first one, which warms the device up, is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Tokens with shared contexts.
    pub tokens_shared: u64,
    /// Tokens without.
    pub tokens_apart: u64,
    /// Seconds with shared contexts.
    pub seconds_shared: f64,
    /// Seconds without.
    pub seconds_apart: f64,
    /// By which factor sharing is faster.
    pub gain: f64,
    /// By which factor it runs fewer tokens: the gain that the counts allow.
    pub gain_of_tokens: f64,
    /// The largest difference between the sums of an ending's log-probabilities, in nats.
    pub largest_difference: f64,
}

/// The result of [`super::evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// What was asked.
    pub task: Task,
    /// Whose wording and norm.
    pub convention: Convention,
    /// Shots of each prompt, before any were dropped.
    pub shots: usize,
    /// The limit, if there was one.
    pub limit: Option<usize>,
    /// The seed of the limit's draw.
    pub seed: u64,
    /// Positions of the model's context.
    pub context: usize,
    /// Questions of the data.
    pub n_questions: usize,
    /// Whether all questions that were wanted were answered; false for a cancelled run.
    pub complete: bool,
    /// Answers that the resume file held.
    pub n_resumed: usize,
    /// The figures over all questions.
    #[serde(flatten)]
    pub figures: Figures,
    /// MMLU: the figures of the groups that have an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupFigures>,
    /// MMLU: the figures of the subjects that have an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<SubjectFigures>,
    /// Questions that lost shots to the context's length.
    pub n_shots_dropped: usize,
    /// Shots that they lost in all.
    pub shots_dropped: usize,
    /// Questions whose context was cut at its beginning.
    pub n_truncated: usize,
    /// What it cost.
    pub cost: Cost,
    /// SHA-256 of the weights ([`crate::checkpoint::Checkpoint::sha256`]).
    pub model_sha256: String,
    /// SHA-256 of the data ([`super::Dataset::sha256`]).
    pub data_sha256: String,
    /// The answers in the order of the questions.
    #[serde(skip)]
    pub answers: Vec<Answer>,
}
