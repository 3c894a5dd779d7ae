//! `--measure`: frame times while nothing runs, then while text is generated.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::frames::{Frame, Quantiles};
use crate::generate::Prompt;
use crate::worker::ModelInfo;

/// How long frames without any GPU work of the engine are measured.
const IDLE: Duration = Duration::from_secs(2);
/// Tokens of a prompt for a model without a tokenizer.
const PROMPT_TOKENS: usize = 384;
/// Tokens of a continuation; then the prompt is read again.
pub const MAX_TOKENS: usize = 120;
/// A prompt of 328 tokens in the demo model's vocabulary.
const PROMPT: &str = include_str!("prompt.txt");

/// Where a measurement is.
#[derive(Debug)]
pub enum Step {
    /// The model is loaded.
    Loading,
    /// Frames alone.
    Idle(Instant),
    /// Frames beside a generation.
    Generating(Instant),
    /// Printed; the window closes.
    Done,
}

/// A measurement.
#[derive(Debug)]
pub struct Measure {
    /// How long to generate.
    pub seconds: Duration,
    /// Where it is.
    pub step: Step,
    /// Frames of the idle time.
    pub idle: Vec<Frame>,
    /// Tokens generated.
    pub tokens: usize,
    /// Prompts read, and their tokens.
    pub prompts: usize,
    /// Tokens of one of them.
    pub prompt_tokens: usize,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    adapter: &'a str,
    driver: &'a str,
    model: &'a str,
    budget_ms: Option<f32>,
    paced: bool,
    window_points: [f32; 2],
    seconds: f64,
    interval_is: &'static str,
    busy_is: &'static str,
    idle: Times,
    generating: Times,
    prefill: Times,
    decode: Times,
    prompts: usize,
    prompt_tokens: usize,
    tokens: usize,
    tokens_per_second: f64,
}

/// Frames of one kind.
#[derive(Debug, Serialize)]
struct Times {
    frames: usize,
    interval: Option<Quantiles>,
    busy: Option<Quantiles>,
}

impl Times {
    fn of<'a>(frames: impl Iterator<Item = &'a Frame> + Clone) -> Self {
        Times {
            frames: frames.clone().count(),
            interval: Quantiles::of(frames.clone().map(|frame| frame.interval_ms)),
            busy: Quantiles::of(frames.map(|frame| frame.busy_ms)),
        }
    }
}

impl Measure {
    /// A measurement that begins when the model is there.
    #[must_use]
    pub fn new(seconds: Duration) -> Self {
        Measure { seconds, step: Step::Loading, idle: Vec::new(), tokens: 0, prompts: 0, prompt_tokens: 0 }
    }

    /// Whether the step at hand has taken its time.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.step {
            Step::Loading | Step::Done => false,
            Step::Idle(since) => since.elapsed() >= IDLE,
            Step::Generating(since) => since.elapsed() >= self.seconds,
        }
    }

    /// The prompt that is read again and again.
    #[must_use]
    pub fn prompt(has_tokenizer: bool) -> Prompt {
        if has_tokenizer {
            Prompt::Text(PROMPT.trim_end().to_owned())
        } else {
            // Below the smallest published vocabulary of GPT-2's shapes, the demo's.
            Prompt::Tokens((0..PROMPT_TOKENS as u32).map(|i| (i * 37 + 11) % 2048).collect())
        }
    }

    /// The report as JSON.
    #[must_use]
    pub fn report(
        &self,
        frames: &[Frame],
        device: &crate::gpu::AdapterInfo,
        model: &ModelInfo,
        (budget_ms, paced): (Option<f32>, bool),
        window: [f32; 2],
    ) -> String {
        let seconds = match self.step {
            Step::Generating(since) => since.elapsed().as_secs_f64(),
            _ => 0.0,
        };
        let report = Report {
            adapter: &device.name,
            driver: &device.driver,
            model: &model.name,
            budget_ms,
            paced,
            window_points: window,
            seconds,
            interval_is: "from the beginning of one frame to that of the next",
            busy_is: "layout, tessellation, encoding and submit of a frame, without waiting for the display",
            idle: Times::of(self.idle.iter()),
            generating: Times::of(frames.iter()),
            prefill: Times::of(frames.iter().filter(|frame| frame.prefill)),
            decode: Times::of(frames.iter().filter(|frame| !frame.prefill)),
            prompts: self.prompts,
            prompt_tokens: self.prompt_tokens,
            tokens: self.tokens,
            tokens_per_second: self.tokens as f64 / seconds,
        };
        serde_json::to_string_pretty(&report).unwrap_or_default()
    }
}
