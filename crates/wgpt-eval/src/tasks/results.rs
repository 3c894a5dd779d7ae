//! Computation of figures from the scores of questions.

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Task};
use super::question::{Convention, Question};
use super::statistics::{Estimate, mean, perplexity, pooled};
use super::subjects::Group;

/// A model's scores for one question: the input of all figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Index into [`Dataset::questions`].
    pub index: usize,
    /// Sum of the log-probabilities of each ending's tokens, in nats.
    pub logprobs: Vec<f64>,
    /// Number of tokens in each ending.
    pub n_tokens: Vec<usize>,
    /// LAMBADA: whether each token of the word is the most probable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greedy: Option<bool>,
    /// Number of shots that did not fit the context.
    pub shots_dropped: usize,
    /// Whether an ending was scored without the beginning of its context.
    pub truncated: bool,
}

impl Answer {
    /// Returns the most probable ending; among equals the first.
    #[must_use]
    pub fn best(&self) -> usize {
        first_largest(self.logprobs.iter().copied())
    }

    /// Returns the most probable ending after division by its length in characters
    /// (lm-eval) or tokens (llmc).
    #[must_use]
    pub fn best_normalized(&self, question: &Question, convention: Convention) -> usize {
        first_largest(self.logprobs.iter().enumerate().map(|(i, logprob)| match convention {
            Convention::LmEval => logprob / question.answer_chars(i) as f64,
            Convention::Llmc => logprob / self.n_tokens[i] as f64,
        }))
    }

    pub(super) fn is_right(&self, question: &Question) -> bool {
        self.greedy.unwrap_or_else(|| self.best() == question.gold)
    }
}

/// Returns the index of the first maximum, like numpy's argmax.
fn first_largest(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), (i, value)| if value > best.1 { (i, value) } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

/// The figures of a set of questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of scored questions.
    pub n: usize,
    /// Fraction of right answers by summed log-probability; for LAMBADA, fraction of
    /// words that the model would have written.
    pub acc: Estimate,
    /// Fraction of right answers by sums divided by lengths; `None` for LAMBADA and for
    /// lm-eval's MMLU, whose endings are letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm: Option<Estimate>,
    /// LAMBADA: perplexity of the words, exp of their mean negative log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Estimate>,
}

/// The figures of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectFigures {
    /// Name of the subject.
    pub subject: String,
    /// Group of the subject, if it is one of the 57.
    pub group: Option<Group>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of a group of subjects: means over questions, not over subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupFigures {
    /// The group.
    pub group: Group,
    /// Number of its subjects that were asked.
    pub n_subjects: usize,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Returns whether figures include acc_norm for the dataset's task and convention.
pub(super) fn is_normalized(dataset: &Dataset) -> bool {
    match dataset.task {
        Task::Lambada => false,
        Task::Mmlu => dataset.convention == Convention::Llmc,
        Task::Hellaswag | Task::Choices => true,
    }
}

/// Returns the figures of `answers`, or `None` without an answer.
pub(super) fn figures(dataset: &Dataset, answers: &[&Answer]) -> Option<Figures> {
    let share = |right: &dyn Fn(&Answer, &Question) -> bool| {
        let rights: Vec<f64> = answers
            .iter()
            .map(|answer| f64::from(u8::from(right(answer, &dataset.questions[answer.index]))))
            .collect();
        mean(&rights)
    };
    let normalized = |answer: &Answer, question: &Question| {
        answer.best_normalized(question, dataset.convention) == question.gold
    };
    let words: Vec<f64> = answers.iter().filter_map(|answer| answer.logprobs.first().copied()).collect();
    Some(Figures {
        n: answers.len(),
        acc: share(&Answer::is_right)?,
        acc_norm: if is_normalized(dataset) { share(&normalized) } else { None },
        perplexity: if dataset.task == Task::Lambada { perplexity(&words) } else { None },
    })
}

/// Returns the figures of each subject with at least one answer, in the order of the
/// subjects.
pub(super) fn by_subject(dataset: &Dataset, answers: &[&Answer]) -> Vec<SubjectFigures> {
    let of = |answer: &&Answer| dataset.questions[answer.index].subject;
    answers
        .chunk_by(|a, b| of(a) == of(b))
        .filter_map(|some| {
            let subject = dataset.subjects[of(&some[0])].name.clone();
            let group = Group::of(&subject);
            Some(SubjectFigures { group, subject, figures: figures(dataset, some)? })
        })
        .collect()
}

/// Returns the number of subjects and their pooled figures, weighted by numbers of
/// questions, or `None` without a subject.
pub(super) fn over<'s>(subjects: impl Iterator<Item = &'s SubjectFigures>) -> Option<(usize, Figures)> {
    let all: Vec<&Figures> = subjects.map(|subject| &subject.figures).collect();
    let accs: Vec<_> = all.iter().map(|figures| (figures.n, figures.acc)).collect();
    let norms: Vec<_> =
        all.iter().filter_map(|figures| figures.acc_norm.map(|norm| (figures.n, norm))).collect();
    let n = all.iter().map(|figures| figures.n).sum();
    let figures = Figures { n, acc: pooled(&accs)?, acc_norm: pooled(&norms), perplexity: None };
    Some((all.len(), figures))
}

/// Returns the figures of each group with at least one answer.
pub(super) fn by_group(subjects: &[SubjectFigures]) -> Vec<GroupFigures> {
    let of = |group| over(subjects.iter().filter(move |subject| subject.group == Some(group)));
    Group::ALL
        .into_iter()
        .filter_map(|group| {
            of(group).map(|(n_subjects, figures)| GroupFigures { group, n_subjects, figures })
        })
        .collect()
}
