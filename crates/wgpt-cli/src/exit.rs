//! How the program ends: outcomes, errors, exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use wgpt::{Error, ErrorKind};

use super::Cli;
use super::flags::with_flags;
use super::output::OutputClosed;

/// How a command ended when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// Ctrl-C ended the command; the results so far were printed.
    Interrupted,
    /// The user's time limit ended the command; the results so far were printed.
    TimedOut,
}

/// 128 + SIGINT, as shells report it.
pub const INTERRUPTED: u8 = 130;
/// The exit code of `timeout(1)`.
const TIMED_OUT: u8 = 124;
const NO_ADAPTER: u8 = 3;
const BAD_INPUT: u8 = 4;
const USAGE: u8 = 2;
const OTHER: u8 = 1;

/// Returns the exit code for a command's result, and prints an error to stderr.
pub fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => return ExitCode::from(INTERRUPTED),
        Ok(Outcome::TimedOut) => return ExitCode::from(TIMED_OUT),
        Err(error) => error,
    };
    // The reader of a pipe closed it early, as in `wgpt generate | head -c 10`.
    if error.downcast_ref::<OutputClosed>().is_some() {
        return ExitCode::SUCCESS;
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        let _ = usage.print();
        return ExitCode::from(USAGE);
    }
    // If stderr is closed, there is nowhere to report the failed write.
    let _ = writeln!(std::io::stderr(), "error: {}", with_flags(&chain(&error)));
    ExitCode::from(match error.downcast_ref::<Error>().map(Error::kind) {
        Some(ErrorKind::Input) => BAD_INPUT,
        Some(ErrorKind::NoAdapter) => NO_ADAPTER,
        Some(ErrorKind::Cancelled) => INTERRUPTED,
        Some(ErrorKind::Timeout) => TIMED_OUT,
        _ => OTHER,
    })
}

/// Returns an error in how the program was called, which clap could not see: exit code 2.
pub fn usage(message: &str) -> anyhow::Error {
    Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).into()
}

/// Joins the error and its causes. Many messages already end with their cause, which is
/// then not repeated.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_cause_is_printed_once() {
        let source = io::Error::other("disk on fire");
        let error = anyhow::Error::new(Error::Io { action: "read", path: "x".into(), source });
        assert_eq!(chain(&error), "cannot read x: disk on fire");
        assert_eq!(chain(&error.context("loading")), "loading: cannot read x: disk on fire");
    }
}
