//! The program's flags for the options of the library.
//!
//! Messages of the library name its options, such as `ModelOptions::steps_ahead = 0`. A user
//! of the program sets them with flags, so the program's messages name these.

/// The library's name of an option, and the program's flag for it. Messages may add a value
/// to the name: `ModelOptions::dtype = f32` becomes `--dtype f32`.
const FLAGS: &[(&str, &str)] = &[
    ("Chat::reset", "/reset"),
    ("ChatOverflow::DropOldest", "--overflow drop"),
    ("ChatTemplate::new", "--chat-template FILE"),
    ("DataOptions::shots", "--shots"),
    ("DataOptions::shots_file", "--shots-file"),
    ("Engine::generate_tokens", "--tokens"),
    ("EngineBuilder::model", "--model"),
    ("GpuOptions::device", "--device"),
    ("GpuOptions::features_floor", "--features-floor"),
    ("ModelFiles::chat_template", "--chat-template NAME"),
    ("ModelFiles::compile_chat_template", "--chat-template FILE"),
    ("ModelOptions::deterministic", "--deterministic"),
    ("ModelOptions::dtype", "--dtype"),
    ("ModelOptions::kv_dtype", "--kv-dtype"),
    ("ModelOptions::memory_budget", "--memory-budget"),
    ("ModelOptions::n_ctx", "--ctx-size"),
    ("ModelOptions::prefill_chunk", "--prefill-chunk"),
    ("ModelOptions::steps_ahead", "--steps-ahead"),
    ("ModelOptions::variants", "--variant"),
    ("Overflow::Slide", "--overflow slide"),
    ("TaskOptions::resume", "--resume"),
];

/// Replaces every option of the library in a message with its flag.
pub fn with_flags(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut done = 0;
    while let Some((at, option, flag)) = next(message, done) {
        text.push_str(&message[done..at]);
        text.push_str(flag);
        done = at + option.len();
        if message[done..].starts_with(" = ") {
            text.push(' ');
            done += " = ".len();
        }
    }
    text + &message[done..]
}

/// Returns the first option in `message[from..]`: its place in the message, its name and
/// its flag.
fn next(message: &str, from: usize) -> Option<(usize, &'static str, &'static str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let places = FLAGS.iter().flat_map(|&(option, flag)| {
        message[from..].match_indices(option).map(move |(at, _)| (from + at, option, flag))
    });
    let whole = places.filter(|&(at, option, _)| {
        !message[..at].ends_with(|c: char| is_word(c) || c == ':')
            && !message[at + option.len()..].starts_with(is_word)
    });
    whole.min_by_key(|&(at, ..)| at)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::{Arg, Command, CommandFactory};

    use super::super::Cli;
    use super::super::chat::HELP;
    use super::*;

    #[test]
    fn options_become_flags() {
        let cases = [
            ("use ModelOptions::steps_ahead = 0", "use --steps-ahead 0"),
            ("ModelOptions::n_ctx = 8 and ModelOptions::kv_dtype = f16", "--ctx-size 8 and --kv-dtype f16"),
            ("(ModelOptions::kv_dtype)ModelOptions::dtype, é", "(--kv-dtype)--dtype, é"),
            ("(DataOptions::shots_file), (DataOptions::shots)", "(--shots-file), (--shots)"),
            ("Chat::reset, ChatOverflow::DropOldest", "/reset, --overflow drop"),
            ("Overflow::Slide", "--overflow slide"),
            ("no option", "no option"),
        ];
        for (message, expected) in cases {
            assert_eq!(with_flags(message), expected);
        }
    }

    #[test]
    fn parts_of_longer_names_are_unchanged() {
        for message in
            ["ModelOptions::dtypes", "MyModelOptions::dtype", "wgpt::ModelOptions::dtype", "xOverflow::Slide"]
        {
            assert_eq!(with_flags(message), message);
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_each_option_once() {
        assert!(FLAGS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_flag_of_the_table_exists() {
        let cli = Cli::command();
        for (option, flag) in FLAGS {
            let exists = match flag.strip_prefix("--") {
                Some(flag) => has_flag(&cli, flag),
                None => HELP.lines().any(|line| line.split(' ').next() == Some(flag)),
            };
            assert!(exists, "{option}: the program has no {flag}");
        }
    }

    /// Returns whether a command or one of its subcommands takes a flag, together with the
    /// value after it, if any.
    fn has_flag(command: &Command, flag: &str) -> bool {
        let (name, value) = flag.split_once(' ').map_or((flag, None), |(name, value)| (name, Some(value)));
        let takes = |argument: &Arg, value: &str| {
            let values = argument.get_possible_values();
            let is_placeholder = value.chars().all(|c| c.is_ascii_uppercase());
            values.iter().any(|known| known.get_name() == value) || values.is_empty() && is_placeholder
        };
        let mut named = command.get_arguments().filter(|argument| argument.get_long() == Some(name));
        named.any(|argument| value.is_none_or(|value| takes(argument, value)))
            || command.get_subcommands().any(|verb| has_flag(verb, flag))
    }

    #[test]
    fn every_option_of_the_table_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let sources = [root.join("src"), root.join("crates/wgpt-eval/src")].map(|dir| sources(&dir)).concat();
        assert!(sources.len() > 100, "the sources were not found");
        for (option, _) in FLAGS {
            let (owner, member) = option.split_once("::").unwrap();
            assert!(
                sources.iter().any(|source| defines(source, owner, member)),
                "the library has no {option}"
            );
        }
    }

    fn sources(dir: &Path) -> Vec<String> {
        let paths = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let text = |path: PathBuf| match path.is_dir() {
            true => sources(&path),
            false => vec![std::fs::read_to_string(path).unwrap()],
        };
        paths.flat_map(text).collect()
    }

    /// Returns whether a file has a public field, method or variant of this name in a
    /// block of its owner.
    fn defines(source: &str, owner: &str, member: &str) -> bool {
        let blocks = [
            (format!("\npub struct {owner} {{"), format!("    pub {member}: ")),
            (format!("\npub enum {owner} {{"), format!("    {member},")),
            (format!("\nimpl {owner} {{"), format!("    pub fn {member}(")),
        ];
        blocks.iter().any(|(head, line)| {
            source.match_indices(head).any(|(at, _)| {
                let block = source[at..].split("\n}").next().unwrap_or_default();
                block.lines().any(|text| text.starts_with(line))
            })
        })
    }
}
