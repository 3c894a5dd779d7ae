//! An answer in progress.

use std::time::Instant;

use super::{Chat, Message, TurnStats};
use crate::engine::{FinishReason, GenerateOptions, Generation, Piece};
use crate::error::{Error, Result};

/// An answer in progress: an iterator over pieces of text.
///
/// The message and its answer join the conversation when the answer ends or is dropped,
/// even if the answer was cut short. A turn is undone if it failed, or if it was
/// cancelled before any text arrived. The conversation then has only the earlier
/// messages.
#[must_use = "an answer is generated only while it is read"]
pub struct Answer<'c> {
    chat: &'c mut Chat,
    generation: Option<Generation>,
    text: String,
    /// The messages before this turn, including messages that were dropped for it.
    before: Vec<Message>,
    failed: bool,
    reused_tokens: usize,
    dropped_messages: usize,
    started: Instant,
    first_token: Option<Instant>,
}

impl<'c> Answer<'c> {
    pub(super) fn begin(chat: &'c mut Chat, text: String, mut options: GenerateOptions) -> Result<Self> {
        let started = Instant::now();
        options.validate(chat.engine.vocab_size())?;
        let mut messages = chat.messages.clone();
        messages.push(Message::new("user", text));
        let n_messages = messages.len();
        let (messages, tokens) = chat.fitting(messages, options.max_new_tokens)?;
        options.overflow = crate::engine::Overflow::Stop;
        options.end_ids.extend_from_slice(&chat.end_ids);

        let mut session = chat.session.take().unwrap_or_else(|| chat.engine.session());
        let common = session.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        session.truncate(common);
        let generation = match Generation::start(&chat.engine, session, &tokens[common..], options) {
            Ok(generation) => generation,
            Err(failed) => {
                let (error, session) = *failed;
                chat.session = Some(session);
                return Err(error);
            }
        };
        Ok(Answer {
            reused_tokens: tokens.len() - generation.timings().prompt_tokens,
            dropped_messages: n_messages - messages.len(),
            before: std::mem::replace(&mut chat.messages, messages),
            generation: Some(generation),
            chat,
            text: String::new(),
            failed: false,
            started,
            first_token: None,
        })
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ends the answer if it has not ended yet, adds it to the conversation, and returns
    /// its statistics.
    ///
    /// # Errors
    /// As [`crate::Session::advance`], because the last tokens of an answer that was cut
    /// short may not have run yet. After an error the answer is kept, and the next turn
    /// runs the whole conversation again.
    pub fn finish(mut self) -> Result<TurnStats> {
        self.close()
    }

    /// Adds the turn to the conversation, once.
    fn close(&mut self) -> Result<TurnStats> {
        let Some(generation) = self.generation.take() else {
            return Err(Error::input("the answer has already ended"));
        };
        let timings = generation.timings();
        let finish = generation.finish_reason();
        let stats = TurnStats {
            prompt_tokens: generation.prompt_tokens().len(),
            reused_tokens: self.reused_tokens,
            first_token: self.first_token.map(|at| at - self.started),
            generated_tokens: timings.generated_tokens,
            generation: timings.generation,
            finish,
            dropped_messages: self.dropped_messages,
        };
        let cut = matches!(finish, None | Some(FinishReason::Cancelled | FinishReason::Timeout));
        if self.failed || (cut && self.text.is_empty()) {
            self.chat.messages = std::mem::take(&mut self.before);
        } else {
            self.chat.messages.push(Message::new("assistant", std::mem::take(&mut self.text)));
            self.chat.last = Some(stats);
        }
        self.chat.session = Some(generation.into_session()?);
        Ok(stats)
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.generation.as_mut()?.next()?;
        match &piece {
            Ok(piece) => {
                self.first_token.get_or_insert_with(Instant::now);
                self.text.push_str(&piece.text);
            }
            Err(_) => self.failed = true,
        }
        Some(piece)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if self.generation.is_some() {
            // If this fails, the chat has no session and the next turn runs the
            // conversation again.
            let _ = self.close();
        }
    }
}
