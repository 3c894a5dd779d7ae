//! A continuation on the worker's thread.

use std::time::Instant;

use wgpt::engine::{Budget, CancelFlag, FinishReason, Generation, GenerationStep, Overflow, Piece};
use wgpt::{Engine, GenerateOptions};

use crate::pace::Pace;
use crate::worker::{Event, Events, Request};

/// What a continuation continues.
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
/// Those of the engine.
pub fn run(
    engine: &Engine,
    request: Request,
    cancel: CancelFlag,
    pace: &Pace,
    events: &Events,
) -> wgpt::Result<()> {
    let Request { id, prompt, sampling, max_tokens, past_end } = request;
    let mut tokens = match prompt {
        // Tokens carry the space in front of a word: behind a lone space a model sees
        // a text that it never saw. The draft leaves out the second space.
        Prompt::Text(text) => engine.tokenizer()?.encode(text.trim_end_matches(' '))?,
        Prompt::Tokens(tokens) => tokens,
    };
    // The newest part, so that at least half of the context is for what comes.
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

/// The next piece, in pieces of work that keep to the budget; the gate is between them.
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
