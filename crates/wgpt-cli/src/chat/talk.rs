//! The conversation itself: messages, commands, answers.

use std::time::Duration;

use wgpt::{CancelFlag, Chat, Error, ErrorKind, FinishReason, GenerateOptions, TurnStats};

use super::command::{Command, HELP, Turn, parse};
use super::input::{Input, Typed};
use super::saved;
use crate::exit::Outcome;
use crate::interrupt;
use crate::output::{duration, finite, labelled, note, note_message, plural, print, rate};

/// A conversation and its running totals.
pub struct Talk {
    chat: Chat,
    options: GenerateOptions,
    cancel: CancelFlag,
    total: Total,
}

/// Sums over all answers.
#[derive(Default)]
struct Total {
    answers: usize,
    prompt_tokens: usize,
    reused_tokens: usize,
    generated_tokens: usize,
}

impl Talk {
    /// Creates a conversation that continues the messages in `chat`.
    pub fn new(chat: Chat, options: GenerateOptions, cancel: CancelFlag) -> Self {
        Talk { chat, options, cancel, total: Total::default() }
    }

    /// Reads messages and commands until the input ends. If the input is not a terminal,
    /// the first error ends the conversation.
    pub fn run(mut self, input: &mut Input) -> anyhow::Result<Outcome> {
        interrupt::be_patient();
        if input.is_terminal() {
            note("/help lists the commands, Ctrl-D quits.");
        }
        loop {
            let text = match input.read()? {
                Typed::Text(text) => text,
                Typed::Dropped => {
                    note("(Ctrl-D or /exit quits)");
                    continue;
                }
                Typed::End => return Ok(Outcome::Done),
            };
            let done = match parse(&text) {
                Turn::Nothing => Ok(false),
                Turn::Wrong(message) => Err(Error::Input(message).into()),
                Turn::Command(command) => self.command(command),
                Turn::Message(text) => self.answer(&text).map(|()| false),
            };
            match done {
                Ok(true) => return Ok(Outcome::Done),
                Ok(false) => {}
                // The user can correct a mistake, but not a lost device.
                Err(error) if input.is_terminal() && is_mistake(&error) => {
                    note_message(&format!("error: {error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs a command; returns whether it ends the conversation.
    fn command(&mut self, command: Command) -> anyhow::Result<bool> {
        match command {
            Command::Exit => return Ok(true),
            Command::Help => note(HELP),
            Command::Stats => note(self.stats().trim_end()),
            Command::Reset => {
                self.chat.reset();
                note("(the conversation is forgotten)");
            }
            Command::Save(path) => {
                saved::save(&path, self.chat.messages())?;
                note(&format!("(saved {} messages to {})", self.chat.messages().len(), path.display()));
            }
            Command::Load(path) => {
                self.chat.set_messages(saved::load(&path)?);
                note(&format!("(loaded {} messages from {})", self.chat.messages().len(), path.display()));
            }
            Command::System(None) => note(self.chat.system().unwrap_or("(there is no system message)")),
            Command::System(Some(text)) => {
                self.chat.set_system(Some(text.as_str()).filter(|text| *text != "-"));
                note(if text == "-" {
                    "(the system message is removed)"
                } else {
                    "(the system message is set)"
                });
            }
        }
        Ok(false)
    }

    /// Sends a message and prints the answer as it is generated.
    fn answer(&mut self, text: &str) -> anyhow::Result<()> {
        // An earlier Ctrl-C does not stop this answer.
        interrupt::lower(&self.cancel);
        let mut answer = self.chat.send(text, self.options.clone())?;
        let mut printed = Ok(());
        let mut in_line = false;
        for piece in &mut answer {
            let text = match piece {
                Ok(piece) => piece.text,
                Err(error) => {
                    printed = Err(error.into());
                    break;
                }
            };
            if !text.is_empty() {
                in_line = !text.ends_with('\n');
                printed = print(&text);
            }
            if printed.is_err() {
                break;
            }
        }
        // An empty answer also gets a line, so that answers stay distinguishable.
        if in_line || answer.text().is_empty() {
            printed = print("\n").and(printed);
        }
        let stats = answer.finish();
        interrupt::lower(&self.cancel);
        printed?;
        let stats = stats?;
        self.total.add(&stats);
        if let Some(line) = remark(&stats) {
            note(&line);
        }
        Ok(())
    }

    fn stats(&self) -> String {
        let Some(last) = self.chat.last_turn() else { return "(there is no answer yet)".into() };
        let ms =
            |duration: Option<Duration>| duration.map_or("-".into(), |d| self::duration(d.as_secs_f64()));
        let prompt = |all, reused: usize| format!("{}, {reused} of them reused", plural(all, "token"));
        labelled(
            &[
                ("prompt", prompt(last.prompt_tokens, last.reused_tokens)),
                ("time to first token", ms(last.first_token)),
                ("answer", format!("{}, {}", plural(last.generated_tokens, "token"), end(last.finish))),
                ("tokens per second", rate(finite(last.generation_rate()))),
                (
                    "all answers",
                    format!("{}, {}", self.total.answers, plural(self.total.generated_tokens, "token")),
                ),
                ("all prompts", prompt(self.total.prompt_tokens, self.total.reused_tokens)),
                (
                    "conversation",
                    format!(
                        "{}, {} cached",
                        plural(self.chat.messages().len(), "message"),
                        plural(self.chat.cached_tokens(), "token")
                    ),
                ),
            ],
            0,
        )
    }
}

impl Total {
    fn add(&mut self, turn: &TurnStats) {
        self.answers += 1;
        self.prompt_tokens += turn.prompt_tokens;
        self.reused_tokens += turn.reused_tokens;
        self.generated_tokens += turn.generated_tokens;
    }
}

/// Returns whether the conversation can continue after an error.
fn is_mistake(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    // A failed write, such as to a full disk, must not lose the conversation.
    kind == Some(ErrorKind::Input) || matches!(error.downcast_ref(), Some(Error::Io { action: "write", .. }))
}

fn end(finish: Option<FinishReason>) -> &'static str {
    finish.map_or("unfinished", FinishReason::name)
}

/// Returns a remark if an answer was cut off or old messages were dropped.
fn remark(stats: &TurnStats) -> Option<String> {
    let dropped = (stats.dropped_messages > 0).then(|| {
        format!("{} of the oldest messages were dropped to fit the context", stats.dropped_messages)
    });
    let cut = match stats.finish {
        Some(FinishReason::Cancelled) => Some("stopped".to_owned()),
        Some(FinishReason::Length) => {
            Some("cut off: the answer reached the token limit or the end of the context".to_owned())
        }
        _ => None,
    };
    let remarks: Vec<String> = dropped.into_iter().chain(cut).collect();
    (!remarks.is_empty()).then(|| format!("({})", remarks.join("; ")))
}
