//! Reads messages from a terminal or from other input.

use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use wgpt::Error;

use crate::interrupt::{blocked, blocked_in_a_mode};
use crate::output::note;

/// Longest line of input that is not a terminal, in bytes; a longer line is refused.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The source of messages.
pub enum Input {
    /// A terminal with line editing and a history.
    Terminal { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    /// Other input: each line is a message.
    Lines,
}

/// A line, or the reason why there is none.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(String),
    /// Ctrl-C: the unfinished message is discarded.
    Dropped,
    End,
}

/// The result of reading a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A message or a command.
    Text(String),
    /// Ctrl-C.
    Dropped,
    /// Ctrl-D, or the end of the file.
    End,
}

impl Input {
    /// Opens the terminal if stdin and stdout are one. A history file that cannot be read
    /// causes a warning; a missing one is created later.
    pub fn open(history: Option<&Path>) -> Result<Self, Error> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(Input::Lines);
        }
        let config = Config::builder().auto_add_history(false).build();
        let failed = |error: ReadlineError| Error::Io {
            action: "open",
            path: "the terminal".into(),
            source: std::io::Error::other(error),
        };
        let mut editor = Editor::with_config(config).map_err(failed)?;
        if let Some(path) = history.filter(|path| path.exists())
            && let Err(error) = editor.load_history(path)
        {
            note(&format!("warning: {}: cannot read the history: {error}", path.display()));
        }
        Ok(Input::Terminal { editor: Box::new(editor), history: history.map(Path::to_owned) })
    }

    /// Returns whether a user types at a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// Reads the next message or command, of one or several lines.
    pub fn read(&mut self) -> Result<Typed, Error> {
        let typed = joined(|begun| self.line(begun))?;
        if let (Input::Terminal { editor, history }, Typed::Text(text)) = (self, &typed)
            && !text.trim().is_empty()
            && matches!(editor.add_history_entry(text), Ok(true))
            && let Some(path) = history
            && let Err(error) = editor.append_history(path)
        {
            note(&format!("warning: {}: cannot save the history: {error}", path.display()));
        }
        Ok(typed)
    }

    fn line(&mut self, begun: bool) -> Result<Line, Error> {
        let failed = |source| Error::Io { action: "read", path: "stdin".into(), source };
        match self {
            Input::Terminal { editor, .. } => {
                let prompt = if begun { ". " } else { "> " };
                match blocked_in_a_mode(|| editor.readline(prompt)) {
                    Ok(text) => Ok(Line::Text(text)),
                    Err(ReadlineError::Interrupted) => Ok(Line::Dropped),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(ReadlineError::Io(source)) => Err(failed(source)),
                    Err(other) => Err(failed(std::io::Error::other(other))),
                }
            }
            Input::Lines => {
                let mut bytes = Vec::new();
                let read = || std::io::stdin().lock().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
                if blocked(read).map_err(failed)? == 0 {
                    return Ok(Line::End);
                }
                if bytes.len() as u64 == LINE_BYTES_MAX {
                    return Err(Error::Input(format!(
                        "stdin: a line has {LINE_BYTES_MAX} bytes or more: shorten it"
                    )));
                }
                let text = String::from_utf8(bytes).map_err(|_| {
                    Error::Input("stdin: a line is not UTF-8 text: convert the input to UTF-8".into())
                })?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Line::Text(text.strip_suffix('\r').unwrap_or(text).to_owned()))
            }
        }
    }
}

/// Marks the beginning and the end of a message of several lines.
const BLOCK: &str = "\"\"\"";

/// Joins lines into one message: lines that end with a backslash, or a block. The
/// argument of `line` is whether a message has already started. If the input ends within a
/// message, the message still counts.
fn joined(mut line: impl FnMut(bool) -> Result<Line, Error>) -> Result<Typed, Error> {
    let first = match line(false)? {
        Line::Text(text) => text,
        Line::Dropped => return Ok(Typed::Dropped),
        Line::End => return Ok(Typed::End),
    };
    let block = first.trim_start().strip_prefix(BLOCK).map(str::to_owned);
    let mut lines = Vec::new();
    let mut current = block.clone().unwrap_or(first);
    loop {
        match (&block, current.trim_end().strip_suffix(BLOCK), current.strip_suffix('\\')) {
            (Some(_), Some(last), _) => {
                lines.push(last.to_owned());
                break;
            }
            (Some(_), None, _) => lines.push(current),
            (None, _, Some(begun)) => lines.push(begun.to_owned()),
            (None, _, None) => {
                lines.push(current);
                break;
            }
        }
        match line(true)? {
            Line::Text(text) => current = text,
            Line::Dropped => return Ok(Typed::Dropped),
            Line::End => break,
        }
    }
    if block.is_some() {
        // The marks may be on their own lines or next to text.
        let own_line = |line: Option<&String>| line.is_some_and(String::is_empty);
        if own_line(lines.first()) {
            lines.remove(0);
        }
        if own_line(lines.last()) {
            lines.pop();
        }
    }
    Ok(Typed::Text(lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Typed> {
        let mut lines = text.lines().map(|line| match line {
            "^C" => Line::Dropped,
            line => Line::Text(line.to_owned()),
        });
        let mut all = Vec::new();
        loop {
            match joined(|_| Ok(lines.next().unwrap_or(Line::End))).unwrap() {
                Typed::End => return all,
                typed => all.push(typed),
            }
        }
    }

    #[test]
    fn lines_are_joined_into_messages() {
        let text = |text: &str| Typed::Text(text.to_owned());
        assert_eq!(read("a\nb"), [text("a"), text("b")]);
        assert_eq!(read("a\\\n b\\\nc\nd"), [text("a\n b\nc"), text("d")]);
        assert_eq!(read("\"\"\"\none\n\n two\\\n\"\"\"\nthree"), [text("one\n\n two\\"), text("three")]);
        assert_eq!(read("\"\"\"one\ntwo\"\"\"\nthree"), [text("one\ntwo"), text("three")]);
        assert_eq!(read("\"\"\"one\"\"\""), [text("one")]);
        assert_eq!(read("\"\"\"\n\"\"\""), [text("")]);
        assert_eq!(read("say \"\"\" and\nb"), [text("say \"\"\" and"), text("b")]);
        assert_eq!(read("a\\\n^C\nb"), [Typed::Dropped, text("b")]);
        assert_eq!(read("\"\"\"\na\nb"), [text("a\nb")]);
        assert_eq!(read("a\\"), [text("a")]);
        assert_eq!(read(""), []);
    }
}
