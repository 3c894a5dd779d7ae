//! Commands, which begin with a slash.

use std::path::PathBuf;

/// A command in a conversation.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Reset,
    Save(PathBuf),
    Load(PathBuf),
    /// Sets the system message, or shows it if there is no text.
    System(Option<String>),
    Stats,
    Help,
    Exit,
}

/// The text that /help prints.
pub const HELP: &str = "\
/reset         forget the conversation, but keep the system message
/save FILE     write the messages to FILE as JSON
/load FILE     continue with the messages in FILE
/system TEXT   set the system message; without TEXT, show it; \"/system -\" removes it
/stats         show tokens and times of the last answer, and the totals
/help          show this list
/exit          quit, as Ctrl-D does
A line that ends with \\ continues on the next line. \"\"\" starts a message of several lines, and a
second \"\"\" ends it. Type // to start a message with /. Ctrl-C stops an answer.";

/// A message or a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Message(String),
    Command(Command),
    /// The line was blank.
    Nothing,
    /// An invalid command, with the reason.
    Wrong(String),
}

/// Parses what a user typed.
pub fn parse(text: &str) -> Turn {
    if text.trim().is_empty() {
        return Turn::Nothing;
    }
    let Some(command) = text.trim_start().strip_prefix('/') else { return Turn::Message(text.to_owned()) };
    if command.starts_with('/') {
        return Turn::Message(command.to_owned());
    }
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim();
    let file = |command: fn(PathBuf) -> Command| match argument {
        "" => Turn::Wrong(format!("/{name} needs a file, as in /{name} talk.json")),
        path => Turn::Command(command(path.into())),
    };
    let alone = |command| match argument {
        "" => Turn::Command(command),
        _ => Turn::Wrong(format!("/{name} takes no argument: type only /{name}")),
    };
    match name {
        "save" => file(Command::Save),
        "load" => file(Command::Load),
        "system" => Turn::Command(Command::System(Some(argument.to_owned()).filter(|text| !text.is_empty()))),
        "reset" => alone(Command::Reset),
        "stats" => alone(Command::Stats),
        "help" => alone(Command::Help),
        "exit" | "quit" => alone(Command::Exit),
        _ => Turn::Wrong(format!(
            "/{name}: no such command; /help lists the commands, and // starts a message with /"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_distinguished_from_messages() {
        use Command::{Exit, Load, Reset, Save, Stats, System};
        for (text, command) in [
            ("/reset", Reset),
            ("  /stats \n", Stats),
            ("/save a b.json", Save("a b.json".into())),
            ("/load x", Load("x".into())),
            ("/system Be kind.\nAlways.", System(Some("Be kind.\nAlways.".into()))),
            ("/system", System(None)),
            ("/quit", Exit),
        ] {
            assert_eq!(parse(text), Turn::Command(command), "{text}");
        }
        for (text, message) in [("a /b", "a /b"), (" hi ", " hi "), ("//etc", "/etc"), ("a\n/b", "a\n/b")] {
            assert_eq!(parse(text), Turn::Message(message.into()));
        }
        assert_eq!(parse(" \n"), Turn::Nothing);
        for wrong in ["/save", "/load ", "/reset now", "/no", "/", "/ help"] {
            assert!(matches!(parse(wrong), Turn::Wrong(_)), "{wrong}");
        }
    }
}
