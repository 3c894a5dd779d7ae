//! Conversations: messages, their prompt, and reuse of the cached part.
//!
//! The tokens of an answer are the ids that the model chose. Usually the tokenizer makes
//! the same tokens from the answer's text. Otherwise the part that differs runs again. An
//! answer ends at any of these ids: the end ids in generation_config.json (or else
//! config.json), the `eos_token` of tokenizer_config.json, and the special token that the
//! template writes after a probe answer.

mod answer;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answer::Answer;

use super::{Engine, FinishReason, GenerateOptions, Session};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, TemplateInput, Tokenizer};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or another role that the template
    /// supports.
    pub role: String,
    /// The message's text.
    pub content: String,
}

impl Message {
    /// Creates a message.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }

    fn is(&self, role: &str) -> bool {
        self.role == role
    }
}

/// The reaction to a conversation that no longer fits the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChatOverflow {
    /// The message is refused with an error, and the conversation stays unchanged. An
    /// answer that reaches the end of the context ends with [`FinishReason::Length`].
    #[default]
    Stop,
    /// Drops the oldest turns after the system message, until the prompt leaves enough of
    /// the context for the answer: a quarter, or [`GenerateOptions::max_new_tokens`] if
    /// that is less.
    DropOldest,
}

/// Statistics of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnStats {
    /// Tokens of the whole conversation before the answer.
    pub prompt_tokens: usize,
    /// Prompt tokens that were already in the cache.
    pub reused_tokens: usize,
    /// Time from the call of [`Chat::send`] to the first token; `None` if there was none.
    pub first_token: Option<Duration>,
    /// Tokens of the answer, excluding the end token.
    pub generated_tokens: usize,
    /// Time from the first token to the end.
    pub generation: Duration,
    /// The reason why the answer ended; `None` if the caller stopped reading.
    pub finish: Option<FinishReason>,
    /// Messages that were dropped to free context.
    pub dropped_messages: usize,
}

impl TurnStats {
    /// Generated tokens per second, excluding the first token, which came with the
    /// prompt.
    #[must_use]
    pub fn generation_rate(&self) -> f64 {
        self.generated_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64()
    }
}

/// A conversation with a model.
///
/// Each turn renders all messages with the model's chat template. Tokens that the
/// rendering shares with the previous turn do not run again, so a turn costs only its own
/// length. A template may change what it wrote before; some remove the thoughts of an
/// earlier answer. The conversation then runs again from that point.
///
/// ```no_run
/// use wgpt::{Engine, GenerateOptions};
///
/// # fn main() -> wgpt::Result<()> {
/// let engine = Engine::builder().model("path/to/instruct-model").build()?;
/// let mut chat = engine.chat()?;
/// chat.set_system(Some("You are terse."));
/// let mut answer = chat.send("What is a shader?", GenerateOptions::default())?;
/// for piece in &mut answer {
///     print!("{}", piece?.text);
/// }
/// let stats = answer.finish()?;
/// println!("{} of {} prompt tokens were there", stats.reused_tokens, stats.prompt_tokens);
/// # Ok(())
/// # }
/// ```
pub struct Chat {
    engine: Engine,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    end_ids: Vec<u32>,
    messages: Vec<Message>,
    variables: BTreeMap<String, serde_json::Value>,
    overflow: ChatOverflow,
    /// Holds the conversation up to the last answer. `None` before the first answer, while
    /// an answer is in progress, and after an error.
    session: Option<Session>,
    last: Option<TurnStats>,
}

impl Engine {
    /// Starts a conversation with the model's own chat template.
    ///
    /// # Errors
    /// As [`super::ModelFiles::chat_template`] and [`Chat::new`].
    pub fn chat(&self) -> Result<Chat> {
        Chat::new(self, self.files().chat_template(None)?)
    }
}

impl Chat {
    /// Starts a conversation with any template: from [`super::ModelFiles::chat_template`]
    /// or [`super::ModelFiles::compile_chat_template`].
    ///
    /// # Errors
    /// As [`super::ModelFiles::end_of_turn_ids`].
    pub fn new(engine: &Engine, template: ChatTemplate) -> Result<Self> {
        Ok(Chat {
            tokenizer: engine.tokenizer()?.clone(),
            end_ids: engine.files().end_of_turn_ids(&template)?,
            engine: engine.clone(),
            template,
            messages: Vec::new(),
            variables: BTreeMap::new(),
            overflow: ChatOverflow::default(),
            session: None,
            last: None,
        })
    }

    /// The messages so far.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces the conversation. The common beginning stays cached and is reused.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Sets the system message, which precedes all others, or removes it. The other
    /// messages stay. Only the next [`Chat::send`] checks whether the model supports a
    /// system message.
    pub fn set_system(&mut self, text: Option<&str>) {
        if self.system().is_some() {
            self.messages.remove(0);
        }
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// The system message.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.messages.first().filter(|message| message.is("system")).map(|message| message.content.as_str())
    }

    /// Removes all messages except the system message.
    pub fn reset(&mut self) {
        self.messages.truncate(usize::from(self.system().is_some()));
        self.last = None;
    }

    /// Sets the reaction to a conversation that no longer fits the context.
    pub fn set_overflow(&mut self, overflow: ChatOverflow) {
        self.overflow = overflow;
    }

    /// Sets a variable of the template, such as Qwen3's `enable_thinking`.
    pub fn set_variable(&mut self, name: impl Into<String>, value: serde_json::Value) {
        self.variables.insert(name.into(), value);
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokens that end an answer ([`super::ModelFiles::end_of_turn_ids`]).
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Number of the conversation's tokens in the cache.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        self.session.as_ref().map_or(0, Session::len)
    }

    /// Statistics of the last answer; `None` before the first one and after a reset.
    #[must_use]
    pub fn last_turn(&self) -> Option<&TurnStats> {
        self.last.as_ref()
    }

    /// Returns the token ids of the messages, followed by the beginning of an answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn prompt_tokens(&self) -> Result<Vec<u32>> {
        self.encode(&self.messages)
    }

    fn encode(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let input = TemplateInput::new(messages).with_generation_prompt();
        let with = |input: TemplateInput, (name, value): (&String, _)| input.with_variable(name, value);
        self.template.encode(&self.tokenizer, &self.variables.iter().fold(input, with))
    }

    /// Sends a user message and starts the answer. The answer joins the conversation when
    /// it ends or is dropped. The turn's end tokens are added to those in `options`;
    /// [`GenerateOptions::overflow`] is ignored.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`] and [`Session::generate`]; [`Error::Input`] if the
    /// conversation does not fit the context. The messages are then unchanged.
    pub fn send(&mut self, text: impl Into<String>, options: GenerateOptions) -> Result<Answer<'_>> {
        Answer::begin(self, text.into(), options)
    }

    /// Returns the messages that fit the context, and their tokens. The oldest turns are
    /// dropped if the overflow setting allows it.
    fn fitting(
        &self,
        mut messages: Vec<Message>,
        max_new_tokens: Option<usize>,
    ) -> Result<(Vec<Message>, Vec<u32>)> {
        let n_ctx = self.engine.n_ctx();
        let quarter = (n_ctx / 4).max(1);
        let wanted = match self.overflow {
            ChatOverflow::Stop => 1,
            ChatOverflow::DropOldest => max_new_tokens.unwrap_or(quarter).clamp(1, quarter),
        };
        loop {
            let tokens = self.encode(&messages)?;
            if tokens.len() + wanted <= n_ctx {
                return Ok((messages, tokens));
            }
            let oldest = usize::from(messages.first().is_some_and(|message| message.is("system")));
            let next_turn = messages.iter().skip(oldest + 1).position(|message| message.is("user"));
            match (self.overflow, next_turn) {
                (ChatOverflow::DropOldest, Some(n)) => drop(messages.drain(oldest..oldest + 1 + n)),
                (ChatOverflow::DropOldest, None) => {
                    return Err(Error::input(format!(
                        "the message has {} tokens with the system message and the template, but the context \
                         holds {n_ctx}, of which {wanted} are reserved for the answer: shorten the message",
                        tokens.len()
                    )));
                }
                (ChatOverflow::Stop, _) => {
                    return Err(Error::input(format!(
                        "the conversation has {} tokens, but the context holds {n_ctx} with the answer: \
                         start a new conversation (Chat::reset), or drop the oldest turns \
                         (ChatOverflow::DropOldest)",
                        tokens.len()
                    )));
                }
            }
        }
    }
}
