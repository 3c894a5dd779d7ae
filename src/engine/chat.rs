//! Conversations: messages, their prompt, and the part of it that the cache has already.

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
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }

    fn is(&self, role: &str) -> bool {
        self.role == role
    }
}

/// What happens when a conversation no longer fits the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChatOverflow {
    /// The message is refused with an error; the conversation stays as it was. An answer
    /// that reaches the context's end ends there, with [`FinishReason::Length`].
    #[default]
    Stop,
    /// The oldest turns behind the system message are dropped, as many as it takes for
    /// the prompt to leave a quarter of the context for the answer, or what
    /// [`GenerateOptions::max_new_tokens`] asks for where that is less.
    DropOldest,
}

/// What one answer took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnStats {
    /// Tokens of the whole conversation in front of the answer.
    pub prompt_tokens: usize,
    /// How many of them had run before: their keys and values lay in the cache.
    pub reused_tokens: usize,
    /// From the call of [`Chat::send`] to the first token; `None` where none came.
    pub first_token: Option<Duration>,
    /// Tokens of the answer, without an end token.
    pub generated_tokens: usize,
    /// From the first token to the end.
    pub generation: Duration,
    /// Why the answer ended; `None` where the caller stopped reading.
    pub finish: Option<FinishReason>,
    /// Messages that were dropped to make room.
    pub dropped_messages: usize,
}

impl TurnStats {
    /// Generated tokens a second; the first one came with the prompt.
    #[must_use]
    pub fn generation_rate(&self) -> f64 {
        self.generated_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64()
    }
}

/// A conversation with a model.
///
/// Each turn renders all messages by the model's chat template. What the rendering has
/// in common with the tokens of the turn before is not run again, so that a turn costs
/// its own length. Where a template changes what it wrote before (some cut out an
/// earlier answer's thoughts), the conversation runs again from there.
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
    /// With the conversation up to the last answer; `None` where a fault took it, and
    /// while an answer runs.
    session: Option<Session>,
    last: Option<TurnStats>,
}

impl Engine {
    /// A conversation by the model's own chat template.
    ///
    /// # Errors
    /// As [`super::ModelFiles::chat_template`] and [`Chat::new`].
    pub fn chat(&self) -> Result<Chat> {
        Chat::new(self, self.files().chat_template(None)?)
    }
}

impl Chat {
    /// A conversation by any template: [`super::ModelFiles::chat_template`],
    /// [`super::ModelFiles::compile_chat_template`].
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

    /// Takes up another conversation. What it has in common with this one stays cached.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Sets the system message in front of all others, or takes it away; whether the
    /// model knows such a message shows when the next one is sent. What was said stays.
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

    /// Forgets all messages but the system's.
    pub fn reset(&mut self) {
        self.messages.truncate(usize::from(self.system().is_some()));
        self.last = None;
    }

    /// What happens when the context is full.
    pub fn set_overflow(&mut self, overflow: ChatOverflow) {
        self.overflow = overflow;
    }

    /// Gives the template a variable, such as `enable_thinking` of Qwen3.
    pub fn set_variable(&mut self, name: impl Into<String>, value: serde_json::Value) {
        self.variables.insert(name.into(), value);
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Tokens that end an answer ([`super::ModelFiles::end_of_turn_ids`]).
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Tokens that the cache holds of the conversation.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        self.session.as_ref().map_or(0, Session::len)
    }

    /// What the last answer took; `None` before the first one and behind a reset.
    #[must_use]
    pub fn last_turn(&self) -> Option<&TurnStats> {
        self.last.as_ref()
    }

    /// The token ids of the messages, with the beginning of an answer behind them.
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

    /// Sends a user's message and begins the answer, which joins the conversation when
    /// it has ended or is dropped. `options` are those of a text, with the turn's end
    /// tokens in addition; of [`GenerateOptions::overflow`] this makes no use.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`] and [`Session::generate`]; [`Error::Input`] where the
    /// conversation is longer than the context. The messages then stay as they were.
    pub fn send(&mut self, text: impl Into<String>, options: GenerateOptions) -> Result<Answer<'_>> {
        Answer::begin(self, text.into(), options)
    }

    /// Messages with a new one that fit, and their tokens: without the oldest turns,
    /// where these may go.
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
            let behind = messages.iter().skip(oldest + 1).position(|message| message.is("user"));
            match (self.overflow, behind) {
                (ChatOverflow::DropOldest, Some(n)) => drop(messages.drain(oldest..oldest + 1 + n)),
                (ChatOverflow::DropOldest, None) => {
                    return Err(Error::input(format!(
                        "the message has {} tokens with what belongs to it, the context holds {n_ctx}, of which \
                         {wanted} are for the answer: shorten it",
                        tokens.len()
                    )));
                }
                (ChatOverflow::Stop, _) => {
                    return Err(Error::input(format!(
                        "the conversation has {} tokens, the context holds {n_ctx} with the answer: begin a new one \
                         (/reset, Chat::reset), or let the oldest turns go (--overflow drop, ChatOverflow::DropOldest)",
                        tokens.len()
                    )));
                }
            }
        }
    }
}
