//! Runs a continuation on the worker's thread.

use std::time::Instant;

use wgpt::{Budget, CancelFlag, FinishReason, Generation, GenerationStep, Overflow, Piece};
use wgpt::{Engine, GenerateOptions};

use crate::pace::Pace;
use crate::worker::{Event, Events, Request};

/// The prompt of a continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// The text before the cursor.
    Text(String),
    /// Tokens, for a model without a tokenizer.
    Tokens(Vec<u32>),
}

/// Runs a continuation to its end and sends its pieces.
///
/// # Errors
/// The errors of the engine.
pub fn run(
    engine: &Engine,
    request: Request,
    cancel: CancelFlag,
    pace: &Pace,
    events: &Events,
) -> wgpt::Result<()> {
    let Request { id, prompt, sampling, max_tokens, past_end } = request;
    let mut tokens = match prompt {
        // A word's token includes the space before it, so a model has never seen a text that
        // stops after a space. Trailing spaces are therefore removed from the prompt. If the
        // continuation then starts with a space, the draft drops it.
        Prompt::Text(text) => engine.tokenizer()?.encode(text.trim_end_matches(' '))?,
        Prompt::Tokens(tokens) => tokens,
    };
    // Keeps the newest part, so that up to half of the context is free for the
    // continuation.
    let room = engine.n_ctx() - max_tokens.min(engine.n_ctx() / 2);
    let dropped = tokens.len().saturating_sub(room);
    tokens.drain(..dropped);
    events.send(Event::Prompt { id, tokens: tokens.len(), dropped });
    let options = GenerateOptions {
        sampling,
        max_new_tokens: Some(max_tokens),
        ignore_eos: past_end,
        overflow: Overflow::Slide,
        cancel: Some(cancel),
        ..GenerateOptions::default()
    };
    let mut generation = engine.generate_tokens(&tokens, options)?;
    while let Some(piece) = next(&mut generation, pace)? {
        events.send(Event::Piece { id, text: piece.text, at: Instant::now() });
    }
    let timings = generation.timings();
    events.send(Event::Ended {
        id,
        reason: generation.finish_reason().unwrap_or(FinishReason::Length),
        tokens: timings.generated_tokens,
        prompt_seconds: timings.prompt.as_secs_f64(),
        rate: timings.generation_rate(),
    });
    Ok(())
}

/// Returns the next piece of text. The work is divided to stay within the budget, and the
/// gate is checked between its parts.
fn next(generation: &mut Generation, pace: &Pace) -> wgpt::Result<Option<Piece>> {
    loop {
        let Some(budget) = pace.budget() else {
            return pace.piece(|| generation.next().transpose());
        };
        match pace.piece(|| generation.step(Budget::new(budget)))? {
            GenerationStep::Working(_) => {}
            GenerationStep::Piece(piece) => return Ok(Some(piece)),
            GenerationStep::Ended => return Ok(None),
        }
    }
}
