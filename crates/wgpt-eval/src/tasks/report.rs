//! Results and cost of an evaluation.

use serde::{Deserialize, Serialize};

use super::dataset::Task;
use super::question::Convention;
use super::results::{Answer, Figures, GroupFigures, SubjectFigures};

/// Whether endings share the context that they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each context is evaluated once. Consecutive contexts share their common prefix.
    #[default]
    Shared,
    /// Each ending is evaluated after its own copy of the context; the baseline of the
    /// measurement.
    Apart,
    /// Each batch is evaluated and timed both ways. The results come from the shared
    /// contexts.
    Measured,
}

/// Cost of an evaluation, and the savings by sharing. Answers from a resume file are not
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Whether endings shared the context that they have in common.
    pub sharing: Sharing,
    /// Number of tokens that the model evaluated.
    pub tokens: u64,
    /// Number of tokens that the model would evaluate if each ending had its own copy of
    /// the context.
    pub tokens_apart: u64,
    /// Seconds that the model took, without tokenizing.
    pub seconds: f64,
    /// [`Sharing::Measured`]: cost of both ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Gain>,
}

/// Cost of both ways over the same batches. The first batch, which warms up the device,
/// is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Tokens evaluated with shared contexts.
    pub tokens_shared: u64,
    /// Tokens evaluated without sharing.
    pub tokens_apart: u64,
    /// Seconds with shared contexts.
    pub seconds_shared: f64,
    /// Seconds without sharing.
    pub seconds_apart: f64,
    /// Factor by which sharing is faster.
    pub gain: f64,
    /// Factor by which sharing evaluates fewer tokens: the gain expected from the token
    /// counts.
    pub gain_of_tokens: f64,
    /// Largest difference between both ways in the summed log-probability of an ending,
    /// in nats.
    pub largest_difference: f64,
}

/// The result of [`super::evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub task: Task,
    /// Convention for prompts and figures.
    pub convention: Convention,
    /// Number of shots in each prompt, before any were dropped.
    pub shots: usize,
    /// Requested number of questions, if limited.
    pub limit: Option<usize>,
    /// Seed that drew the questions of the limit.
    pub seed: u64,
    /// Length of the model's context in positions.
    pub context: usize,
    /// Number of questions in the data.
    pub n_questions: usize,
    /// Whether all requested questions were answered; false for a cancelled run.
    pub complete: bool,
    /// Number of answers from the resume file.
    pub n_resumed: usize,
    /// Figures over all answered questions.
    #[serde(flatten)]
    pub figures: Figures,
    /// MMLU: figures of the groups with at least one answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupFigures>,
    /// MMLU: figures of the subjects with at least one answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<SubjectFigures>,
    /// Number of questions that lost shots because the context was too short.
    pub n_short_of_shots: usize,
    /// Total number of shots that they lost.
    pub shots_dropped: usize,
    /// Number of questions whose context was cut at its start.
    pub n_truncated: usize,
    /// Cost of the evaluation.
    pub cost: Cost,
    /// SHA-256 of the weights ([`wgpt::ModelFiles::sha256`]).
    pub model_sha256: String,
    /// SHA-256 of the data ([`super::Dataset::sha256`]).
    pub data_sha256: String,
    /// Answers in the order of the questions.
    #[serde(skip)]
    pub answers: Vec<Answer>,
}
