//! `--measure`: frame times while idle, then while text is generated.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::frames::{Frame, Quantiles};
use crate::generate::Prompt;
use crate::worker::ModelInfo;

/// How long to measure frames while the engine does no GPU work.
const IDLE: Duration = Duration::from_secs(2);
/// Prompt length for a model without a tokenizer, in tokens.
const PROMPT_TOKENS: usize = 384;
/// Length of a continuation in tokens; after it the prompt is read again.
pub const MAX_TOKENS: usize = 120;
/// A prompt of 328 tokens in the demo model's vocabulary.
const PROMPT: &str = include_str!("prompt.txt");

/// The stages of a measurement.
#[derive(Debug)]
pub enum Step {
    /// The model is loading.
    Loading,
    /// Measuring frames while idle.
    Idle(Instant),
    /// Measuring frames during generation.
    Generating(Instant),
    /// The report is printed and the window closes.
    Done,
}

/// A measurement.
#[derive(Debug)]
pub struct Measure {
    /// How long to generate.
    pub seconds: Duration,
    /// The current stage.
    pub step: Step,
    /// The frames while idle.
    pub idle: Vec<Frame>,
    /// Number of generated tokens.
    pub tokens: usize,
    /// Number of prompts read.
    pub prompts: usize,
    /// Tokens per prompt.
    pub prompt_tokens: usize,
}

/// The printed report.
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

/// Statistics of one kind of frames.
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
    /// Creates a measurement, which starts once the model is loaded.
    #[must_use]
    pub fn new(seconds: Duration) -> Self {
        Measure { seconds, step: Step::Loading, idle: Vec::new(), tokens: 0, prompts: 0, prompt_tokens: 0 }
    }

    /// Whether the current stage has lasted long enough.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.step {
            Step::Loading | Step::Done => false,
            Step::Idle(since) => since.elapsed() >= IDLE,
            Step::Generating(since) => since.elapsed() >= self.seconds,
        }
    }

    /// The prompt, which is read repeatedly.
    #[must_use]
    pub fn prompt(has_tokenizer: bool) -> Prompt {
        if has_tokenizer {
            Prompt::Text(PROMPT.trim_end().to_owned())
        } else {
            // The ids are below 2048, the demo model's vocabulary size and the smallest
            // among GPT-2 shapes.
            Prompt::Tokens((0..PROMPT_TOKENS as u32).map(|i| (i * 37 + 11) % 2048).collect())
        }
    }

    /// Returns the report as JSON.
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
