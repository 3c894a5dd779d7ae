//! Errors of templates, and a template's refusal of a conversation.

use std::error::Error as StdError;
use std::fmt;

use minijinja::ErrorKind;

use crate::error::Error;

/// The message that a template raised with `raise_exception`.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl Refusal {
    /// Returns the error that carries the message through minijinja.
    pub(super) fn error(message: String) -> minijinja::Error {
        minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Refusal {}

/// Returns the error that reports a template's failure to the user.
pub(super) fn explained(name: &str, error: &minijinja::Error) -> Error {
    if let Some(refusal) = refusal(error) {
        let message = printable(&refusal.0);
        return Error::input(format!("{name}: the chat template refuses these messages: {message}"));
    }
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let what = match error.kind() {
        ErrorKind::OutOfFuel => {
            "the chat template takes more work than a conversation needs: check that its loops end".into()
        }
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {}", printable(detail)),
            None => kind.to_string(),
        },
    };
    let advice = "correct the template, or give another one (ChatTemplate::new)";
    Error::model(name, format!("{line}{what}: {advice}"))
}

fn refusal(error: &minijinja::Error) -> Option<&Refusal> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(refusal) = found.downcast_ref() {
            return Some(refusal);
        }
        cause = found.source();
    }
    None
}

/// Escapes the control characters in text from a file, because a terminal would obey
/// them.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
