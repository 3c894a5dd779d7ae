//! An answer while it is made.

use std::time::Instant;

use super::{Chat, Message, TurnStats};
use crate::engine::{FinishReason, GenerateOptions, Generation, Piece};
use crate::error::{Error, Result};

/// An answer that is being made: an iterator over pieces of text.
///
/// What was said joins the conversation when the answer has ended or is dropped, also
/// where it was cut short. A turn that failed, or was cancelled before any text came, is
/// taken back: the messages are those of before.
#[must_use = "an answer that nobody reads does not come"]
pub struct Answer<'c> {
    chat: &'c mut Chat,
    generation: Option<Generation>,
    text: String,
    /// The messages before this turn; some may have been dropped for it.
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
        let generation = session.generate(&tokens[common..], options)?;
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

    /// Ends the answer here, if it has not ended, and tells what it took. The
    /// conversation has it then.
    ///
    /// # Errors
    /// As [`crate::Session::advance`]: the end of a text that was cut short may have to
    /// run. The answer is kept, and the next turn runs the conversation anew.
    pub fn finish(mut self) -> Result<TurnStats> {
        self.close()
    }

    /// Takes the turn into the conversation, once.
    fn close(&mut self) -> Result<TurnStats> {
        let Some(generation) = self.generation.take() else {
            return Err(Error::input("the answer has ended before"));
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
            // Without its session the next turn runs the conversation anew.
            let _ = self.close();
        }
    }
}
