//! The summary of a finished generation: a line on stderr, or JSON.

use std::time::{Duration, Instant};

use serde::Serialize;
use wgpt::{
    Engine, FinishReason, GenerateOptions, Generation, LookupStats, SamplingParams, TokenLogprobs, Tokenizer,
};

use crate::output::{finite, plural, rate};
use crate::run_info::RunInfo;

/// Two times before the generation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When the program started.
    pub started: Instant,
    /// When the model was ready.
    pub loaded: Instant,
}

/// The JSON object of a generation.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    input_ids: &'a [u32],
    /// New tokens only, without an end-of-text token.
    token_ids: &'a [u32],
    /// `null` if the model has no tokenizer.
    text: Option<String>,
    finish_reason: &'static str,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Logprob>>,
    sampling: &'a SamplingParams,
    max_new_tokens: Option<usize>,
    timings: Timings,
    #[serde(flatten)]
    run: RunInfo,
}

/// Durations in milliseconds and rates in tokens per second; `null` if nothing was
/// measured.
#[derive(Debug, Serialize)]
struct Timings {
    /// From the program's start to the loaded model.
    load_ms: f64,
    /// From the program's start to the first token.
    first_token_ms: Option<f64>,
    prompt_tokens: usize,
    /// From the loaded model to the first token's logits.
    prompt_ms: f64,
    prompt_per_second: Option<f64>,
    generated_tokens: usize,
    /// From the first token's logits to the end.
    generation_ms: f64,
    /// Excludes the first token, which is computed with the prompt.
    generation_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_lookup: Option<Lookup>,
}

/// Results of --prompt-lookup.
#[derive(Debug, Serialize)]
struct Lookup {
    /// Number of passes in which the model chose tokens, including the prompt's last
    /// pass.
    passes: usize,
    drafted_tokens: usize,
    accepted_tokens: usize,
}

impl From<LookupStats> for Lookup {
    fn from(LookupStats { passes, drafted, accepted }: LookupStats) -> Self {
        Lookup { passes, drafted_tokens: drafted, accepted_tokens: accepted }
    }
}

#[derive(Debug, Serialize)]
struct Logprob {
    #[serde(flatten)]
    token: Scored,
    top: Vec<Scored>,
}

#[derive(Debug, Serialize)]
struct Scored {
    token: u32,
    /// The token decoded separately; an incomplete character becomes U+FFFD.
    text: Option<String>,
    /// `null` for minus infinity.
    logprob: f32,
}

impl Scored {
    fn new(token: u32, logprob: f32, tokenizer: Option<&Tokenizer>) -> Self {
        Scored { token, text: tokenizer.and_then(|t| t.decode(&[token], false).ok()), logprob }
    }
}

impl<'a> Report<'a> {
    /// Collects the data of a finished generation.
    pub fn new(
        engine: &Engine,
        generation: &'a Generation,
        options: &'a GenerateOptions,
        text: String,
        logprobs: &[TokenLogprobs],
        clock: Clock,
        first_token: Option<Instant>,
    ) -> anyhow::Result<Self> {
        let tokenizer = engine.tokenizer().ok();
        let scored = |scores: &TokenLogprobs| Logprob {
            token: Scored::new(scores.token, scores.logprob, tokenizer),
            top: scores.top.iter().map(|&(token, logprob)| Scored::new(token, logprob, tokenizer)).collect(),
        };
        Ok(Report {
            input_ids: generation.prompt_tokens(),
            token_ids: generation.tokens(),
            text: generation.has_text().then_some(text),
            finish_reason: finish_reason(generation),
            seed: generation.seed(),
            logprobs: options.logprobs.map(|_| logprobs.iter().map(scored).collect()),
            sampling: &options.sampling,
            max_new_tokens: options.max_new_tokens,
            timings: Timings::new(generation, clock, first_token),
            run: RunInfo::new(engine),
        })
    }
}

impl Timings {
    fn new(generation: &Generation, clock: Clock, first_token: Option<Instant>) -> Self {
        let timings = generation.timings();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (prompt_per_second, generation_per_second) = rates(generation);
        Timings {
            load_ms: ms(clock.loaded - clock.started),
            first_token_ms: first_token.map(|at| ms(at - clock.started)),
            prompt_tokens: timings.prompt_tokens,
            prompt_ms: ms(timings.prompt),
            prompt_per_second,
            generated_tokens: timings.generated_tokens,
            generation_ms: ms(timings.generation),
            generation_per_second,
            prompt_lookup: timings.lookup.map(Lookup::from),
        }
    }
}

/// Returns the rates of prompt and generation if there was something to measure.
fn rates(generation: &Generation) -> (Option<f64>, Option<f64>) {
    let timings = generation.timings();
    let prompt = (timings.generated_tokens > 0).then(|| timings.prompt_rate()).and_then(finite);
    let generated = (timings.generated_tokens > 1).then(|| timings.generation_rate()).and_then(finite);
    (prompt, generated)
}

fn finish_reason(generation: &Generation) -> &'static str {
    generation.finish_reason().map_or("error", FinishReason::name)
}

/// Formats the line for stderr.
pub fn summary(generation: &Generation, clock: Clock) -> String {
    let timings = generation.timings();
    let (prompt, generated) = rates(generation);
    let lookup = timings.lookup.map_or_else(String::new, |LookupStats { passes, drafted, accepted }| {
        format!(" | lookup accepted {accepted} of {drafted} drafts in {passes} passes")
    });
    format!(
        "[{} | prompt {}, {} tok/s | generated {}, {} tok/s{lookup} | load {:.2} s | seed {}]",
        finish_reason(generation),
        plural(timings.prompt_tokens, "token"),
        rate(prompt),
        plural(timings.generated_tokens, "token"),
        rate(generated),
        (clock.loaded - clock.started).as_secs_f64(),
        generation.seed(),
    )
}
