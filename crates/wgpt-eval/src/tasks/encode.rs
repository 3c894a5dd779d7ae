//! Tokenization of questions to fit the context.

use super::dataset::Dataset;
use super::file::fault;
use super::python::rstrip;
use super::question::{Convention, Question};
use wgpt::{Engine, Error, Result, Tokenizer};

/// A tokenized question.
pub(super) struct Encoded {
    /// Index into the questions of the dataset.
    pub(super) index: usize,
    /// Context that all endings follow; at least one token.
    pub(super) context: Vec<u32>,
    /// Scored tokens of each ending; none is empty.
    pub(super) endings: Vec<Vec<u32>>,
    /// Number of shots dropped from the start.
    pub(super) shots_dropped: usize,
    /// Whether an ending lacks the beginning of its context.
    pub(super) truncated: bool,
}

impl Encoded {
    /// Returns the length of the longest ending.
    pub(super) fn longest(&self) -> usize {
        self.endings.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Tokenizes questions.
pub(super) struct Encoder<'a> {
    dataset: &'a Dataset,
    tokenizer: &'a Tokenizer,
    /// Replaces an empty context: the model's begin-of-text token, or else its
    /// end-of-text token.
    begin: Option<u32>,
    n_ctx: usize,
}

impl<'a> Encoder<'a> {
    /// Creates an encoder for the model of `engine`.
    ///
    /// # Errors
    /// The errors of [`Engine::tokenizer`].
    pub(super) fn new(engine: &'a Engine, dataset: &'a Dataset) -> Result<Self> {
        Ok(Encoder {
            dataset,
            tokenizer: engine.tokenizer()?,
            begin: engine.files().bos_token_id(),
            n_ctx: engine.n_ctx(),
        })
    }

    /// Encodes the questions of `indices` on all cores. With five shots, tokenizing a
    /// question of MMLU takes as long as a GPU takes to answer it.
    ///
    /// # Errors
    /// The error of [`Encoder::encode`] for the first question that has one.
    pub(super) fn encode_all(&self, indices: &[usize]) -> Result<Vec<Encoded>> {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = indices.len().div_ceil(n_threads).max(1);
        let parts: Vec<Result<Vec<Encoded>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = indices
                .chunks(share)
                .map(|part| scope.spawn(|| part.iter().map(|&i| self.encode(i)).collect()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Encodes the question at `index`. Shots are dropped from the start until the
    /// context and the longest ending fit. A context that is still too long loses its
    /// beginning when it is scored, as in lm-eval.
    ///
    /// # Errors
    /// [`Error::Input`] with file and line for an ending of no tokens or of more tokens
    /// than the context holds; errors of the tokenizer.
    pub(super) fn encode(&self, index: usize) -> Result<Encoded> {
        let question = &self.dataset.questions[index];
        let n_shots = self.dataset.subjects[question.subject].shots.len();
        let mut shots_dropped = 0;
        loop {
            let (context, endings) = self.tokens(question, &self.dataset.prompt(question, shots_dropped))?;
            let longest = endings.iter().map(Vec::len).max().unwrap_or(0);
            if context.len() + longest > self.n_ctx && shots_dropped < n_shots {
                shots_dropped += 1;
                continue;
            }
            if longest > self.n_ctx {
                return Err(self.fault(
                    question,
                    format!(
                        "an ending has {longest} tokens, but the context has {} positions: shorten it, or \
                         raise ModelOptions::n_ctx",
                        self.n_ctx
                    ),
                ));
            }
            // The last token of an ending is predicted but not evaluated.
            let truncated = context.len() + longest > self.n_ctx + 1;
            return Ok(Encoded { index, context, endings, shots_dropped, truncated });
        }
    }

    fn tokens(&self, question: &Question, prompt: &str) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
        let (context, endings) = match self.dataset.convention {
            Convention::LmEval => self.joined(question, prompt)?,
            Convention::Llmc => {
                let endings = question.continuations.iter().map(|ending| self.tokenizer.encode(ending));
                (self.tokenizer.encode(prompt)?, endings.collect::<Result<Vec<_>>>()?)
            }
        };
        if let Some(empty) = endings.iter().position(Vec::is_empty) {
            return Err(self.fault(
                question,
                format!("ending {empty} adds no token to its context: give it text or remove the question"),
            ));
        }
        if !context.is_empty() {
            return Ok((context, endings));
        }
        let begin = self.begin.ok_or_else(|| {
            self.fault(
                question,
                "the context is empty, and the model names no begin-of-text token: give the question a \
                 context",
            )
        })?;
        Ok((vec![begin], endings))
    }

    /// Encodes like lm-eval's `_encode_pair`: white space at the end of the context
    /// belongs to the endings. Context and ending are tokenized together. The tokens of the
    /// ending follow as many tokens as the context has.
    fn joined(&self, question: &Question, prompt: &str) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
        let text = rstrip(prompt);
        let context = self.tokenizer.encode(text)?;
        let mut endings = Vec::with_capacity(question.continuations.len());
        for continuation in &question.continuations {
            let mut whole = self.tokenizer.encode(&format!("{prompt}{continuation}"))?;
            endings.push(whole.split_off(context.len().min(whole.len())));
        }
        Ok((context, endings))
    }

    fn fault(&self, question: &Question, message: impl std::fmt::Display) -> Error {
        fault(&self.dataset.subjects[question.subject].path, question.line, message)
    }
}
