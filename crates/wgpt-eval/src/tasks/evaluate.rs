//! The loop over the questions of a task.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::dataset::{Dataset, Task};
use super::encode::{Encoded, Encoder};
use super::report::{Cost, Gain, Sharing, TaskReport};
use super::results::{Answer, by_group, by_subject, figures, is_normalized, over};
use super::resume::ResumeFile;
use super::sample::sample;
use super::scoring::{Scorer, Scores};
use wgpt::{CancelFlag, Engine, Error, Result};

/// Number of questions tokenized at a time.
const BLOCK: usize = 64;
/// Interval between saves of the resume file. A run that is killed loses the answers
/// since the last save.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Options of a task evaluation.
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    /// Number of questions to ask, drawn at random by `seed`; `None` asks all.
    pub limit: Option<usize>,
    /// Seed that decides which questions a limit draws.
    pub seed: u64,
    /// Whether endings share the context that they have in common.
    pub sharing: Sharing,
    /// File that stores the answers. A run resumes from the answers that the file
    /// contains.
    pub resume: Option<PathBuf>,
    /// Flag that ends the evaluation, even within a batch. The report then covers the
    /// questions answered so far.
    pub cancel: Option<CancelFlag>,
}

/// Progress of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct TaskProgress {
    /// Number of questions answered.
    pub done: usize,
    /// Number of questions to answer.
    pub total: usize,
    /// Number of these questions that were answered in the resume file.
    pub resumed: usize,
    /// Fraction of right answers so far.
    pub acc: f64,
    /// Fraction of right answers so far by normalized sums, if the task has them.
    pub acc_norm: Option<f64>,
}

/// Asks a model the questions of a task. A `Break` from the callback or the cancel flag
/// ends the evaluation early; the report then covers the questions answered so far.
///
/// # Errors
/// [`Error::Input`] for a limit of 0, for a question whose ending exceeds the context,
/// for a model without a tokenizer, and for a resume file that is damaged or belongs to
/// another run; [`Error::Io`] if that file cannot be written; errors of the device;
/// [`Error::Cancelled`] before the first question was answered.
pub fn evaluate(
    engine: &Engine,
    dataset: &Dataset,
    options: &TaskOptions,
    progress: &mut dyn FnMut(TaskProgress) -> ControlFlow<()>,
) -> Result<TaskReport> {
    if options.limit == Some(0) {
        return Err(Error::input("a limit of 0 questions: expected 1 or more"));
    }
    let model_sha256 = engine.files().sha256()?.to_owned();
    let (resume, answers) = match &options.resume {
        Some(path) => {
            let (file, answers) = ResumeFile::open(path, engine, dataset, options.seed, &model_sha256)?;
            (Some(file), answers)
        }
        None => (None, Vec::new()),
    };
    let wanted = sample(dataset.questions.len(), options.limit, options.seed);
    let mut run = Run::new(engine, dataset, options, answers);
    let result = run.ask(&wanted, resume.as_ref(), progress);
    if let Some(resume) = &resume {
        resume.save(&run.answers)?;
    }
    match result {
        Ok(()) | Err(Error::Cancelled) => run.report(&wanted, options, model_sha256),
        Err(error) => Err(error),
    }
}

/// State of an evaluation.
struct Run<'a> {
    engine: &'a Engine,
    dataset: &'a Dataset,
    scorer: Scorer<'a>,
    /// In ascending order of question indices.
    answers: Vec<Answer>,
    n_held: usize,
    cost: Cost,
    measured: Measured,
}

#[derive(Default)]
struct Measured {
    batches: usize,
    tokens: [u64; 2],
    time: [Duration; 2],
    difference: f64,
}

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, dataset: &'a Dataset, options: &TaskOptions, answers: Vec<Answer>) -> Self {
        let scorer = Scorer::new(engine, options.cancel.clone(), dataset.task == Task::Lambada);
        let cost =
            Cost { sharing: options.sharing, tokens: 0, tokens_apart: 0, seconds: 0.0, measured: None };
        Run { engine, dataset, scorer, n_held: answers.len(), answers, cost, measured: Measured::default() }
    }

    /// Asks the questions of `wanted` that have no answer yet.
    fn ask(
        &mut self,
        wanted: &[usize],
        resume: Option<&ResumeFile>,
        progress: &mut dyn FnMut(TaskProgress) -> ControlFlow<()>,
    ) -> Result<()> {
        let encoder = Encoder::new(self.engine, self.dataset)?;
        let open: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|index| self.answers.binary_search_by_key(index, |answer| answer.index).is_err())
            .collect();
        let mut tally = Tally::new(self.dataset, wanted, &self.answers);
        let mut saved = Instant::now();
        for block in open.chunks(BLOCK) {
            let encoded = encoder.encode_all(block)?;
            let mut rest = &encoded[..];
            while !rest.is_empty() {
                let (batch, behind) = rest.split_at(self.batch_len(rest));
                rest = behind;
                for (item, scores) in batch.iter().zip(self.score(batch)?) {
                    let answer = answer(item, scores);
                    tally.add(self.dataset, &answer);
                    let place = self.answers.partition_point(|other| other.index < answer.index);
                    self.answers.insert(place, answer);
                }
                if progress(tally.progress()).is_break() {
                    return Err(Error::Cancelled);
                }
                if let Some(resume) = resume.filter(|_| saved.elapsed() >= SAVE_INTERVAL) {
                    resume.save(&self.answers)?;
                    saved = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Returns the number of questions whose endings together fit into one prefill chunk;
    /// at least one.
    fn batch_len(&self, items: &[Encoded]) -> usize {
        let mut rows = 0;
        let fits = |item: &&Encoded| {
            let first = rows == 0;
            rows += item.endings.iter().map(|ending| ending.len() + 1).sum::<usize>();
            first || rows <= self.engine.options().prefill_chunk
        };
        items.iter().take_while(fits).count()
    }

    fn score(&mut self, batch: &[Encoded]) -> Result<Vec<Scores>> {
        let (begun, tokens) = (Instant::now(), self.scorer.tokens);
        let scores = match self.cost.sharing {
            Sharing::Apart => self.scorer.apart(batch),
            Sharing::Shared | Sharing::Measured => self.scorer.shared(batch),
        }?;
        let (time, tokens) = (begun.elapsed(), self.scorer.tokens - tokens);
        self.cost.seconds += time.as_secs_f64();
        self.cost.tokens += tokens;
        self.cost.tokens_apart += batch.iter().map(|item| self.scorer.tokens_apart(item)).sum::<u64>();
        if self.cost.sharing == Sharing::Measured {
            self.measure(batch, &scores, tokens, time)?;
        }
        Ok(scores)
    }

    /// Scores a batch again without sharing, to compare both ways.
    fn measure(&mut self, batch: &[Encoded], shared: &[Scores], tokens: u64, time: Duration) -> Result<()> {
        let (begun, before) = (Instant::now(), self.scorer.tokens);
        let apart = self.scorer.apart(batch)?;
        let (time_apart, tokens_apart) = (begun.elapsed(), self.scorer.tokens - before);
        let sums = |scores: &'_ [Scores]| scores.iter().flat_map(|s| s.logprobs.clone()).collect::<Vec<_>>();
        for (a, b) in sums(shared).iter().zip(sums(&apart)) {
            self.measured.difference = self.measured.difference.max((a - b).abs());
        }
        if self.measured.batches > 0 {
            self.measured.tokens[0] += tokens;
            self.measured.tokens[1] += tokens_apart;
            self.measured.time[0] += time;
            self.measured.time[1] += time_apart;
        }
        self.measured.batches += 1;
        Ok(())
    }

    fn report(mut self, wanted: &[usize], options: &TaskOptions, model_sha256: String) -> Result<TaskReport> {
        // A resume file may contain answers beyond the limit.
        let n_answers = self.answers.len();
        self.answers.retain(|answer| wanted.binary_search(&answer.index).is_ok());
        let asked = n_answers - self.n_held;
        let answers: Vec<&Answer> = self.answers.iter().collect();
        let mut all = figures(self.dataset, &answers).ok_or(Error::Cancelled)?;
        let (mut groups, mut subjects) = (Vec::new(), Vec::new());
        if self.dataset.task == Task::Mmlu {
            subjects = by_subject(self.dataset, &answers);
            groups = by_group(&subjects);
            all = over(subjects.iter()).map_or(all, |(_, figures)| figures);
        }
        self.cost.measured = self.measured.gain();
        Ok(TaskReport {
            task: self.dataset.task,
            convention: self.dataset.convention,
            shots: self.dataset.shots,
            limit: options.limit,
            seed: options.seed,
            context: self.engine.n_ctx(),
            n_questions: self.dataset.questions.len(),
            complete: self.answers.len() == wanted.len(),
            n_resumed: self.answers.len() - asked,
            figures: all,
            groups,
            subjects,
            n_short_of_shots: self.answers.iter().filter(|answer| answer.shots_dropped > 0).count(),
            shots_dropped: self.answers.iter().map(|answer| answer.shots_dropped).sum(),
            n_truncated: self.answers.iter().filter(|answer| answer.truncated).count(),
            cost: self.cost,
            model_sha256,
            data_sha256: self.dataset.sha256.clone(),
            answers: self.answers,
        })
    }
}

impl Measured {
    fn gain(&self) -> Option<Gain> {
        let [seconds_shared, seconds_apart] = self.time.map(|time| time.as_secs_f64());
        let [tokens_shared, tokens_apart] = self.tokens;
        (tokens_shared > 0 && seconds_shared > 0.0).then(|| Gain {
            tokens_shared,
            tokens_apart,
            seconds_shared,
            seconds_apart,
            gain: seconds_apart / seconds_shared,
            gain_of_tokens: tokens_apart as f64 / tokens_shared as f64,
            largest_difference: self.difference,
        })
    }
}

fn answer(item: &Encoded, scores: Scores) -> Answer {
    Answer {
        index: item.index,
        logprobs: scores.logprobs,
        n_tokens: item.endings.iter().map(Vec::len).collect(),
        greedy: scores.greedy,
        shots_dropped: item.shots_dropped,
        truncated: item.truncated,
    }
}

/// Running counts of right answers.
struct Tally {
    total: usize,
    resumed: usize,
    done: usize,
    right: usize,
    right_normalized: Option<usize>,
}

impl Tally {
    fn new(dataset: &Dataset, wanted: &[usize], answers: &[Answer]) -> Self {
        let right_normalized = is_normalized(dataset).then_some(0);
        let mut tally = Tally { total: wanted.len(), resumed: 0, done: 0, right: 0, right_normalized };
        for answer in answers.iter().filter(|answer| wanted.binary_search(&answer.index).is_ok()) {
            tally.add(dataset, answer);
        }
        tally.resumed = tally.done;
        tally
    }

    fn add(&mut self, dataset: &Dataset, answer: &Answer) {
        let question = &dataset.questions[answer.index];
        self.done += 1;
        self.right += usize::from(answer.is_right(question));
        if let Some(right) = &mut self.right_normalized {
            *right += usize::from(answer.best_normalized(question, dataset.convention) == question.gold);
        }
    }

    fn progress(&self) -> TaskProgress {
        let share = |right: usize| right as f64 / self.done as f64;
        TaskProgress {
            done: self.done,
            total: self.total,
            resumed: self.resumed,
            acc: share(self.right),
            acc_norm: self.right_normalized.map(share),
        }
    }
}
