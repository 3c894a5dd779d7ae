//! Tests that an option has one spelling and one meaning in all commands.

use std::collections::BTreeMap;

use clap::{Arg, Command, CommandFactory};

/// The groups of options that commands share, in the order of every `--help`.
const GROUPS: [&str; 4] = ["Sampling", "Output", "Model", "Device"];

/// Options whose help differs between commands, and why.
const OTHER_HELP: [(&str, &str); 8] = [
    ("limit", "the unit is what the command counts: windows, documents, tokens or questions"),
    ("stride", "perplexity has protocols without it"),
    ("max-new-tokens", "generate and chat have other defaults"),
    ("overflow", "a text slides, a conversation drops turns"),
    ("seconds", "the duration of what the command measures"),
    ("n-prompt", "bench model takes several"),
    ("output", "logits and bench plot have no other place for their results"),
    ("dtype", "bench kernels has no model, its KV cache has the same type"),
];

/// Options that take a list in one command and a single value in others.
const LISTS: [&str; 1] = ["n-prompt"];

/// The only spelling of each meaning: long name, short name, value name. A command that has
/// the meaning has this option. No other option has the short name.
const MEANINGS: [(&str, Option<char>, Option<&str>); 17] = [
    ("json", None, None),
    ("csv", None, None),
    ("jsonl", None, None),
    ("output", Some('o'), Some("FILE")),
    ("plot", None, Some("FILE")),
    ("prompt", Some('p'), Some("TEXT")),
    ("prompt-file", None, Some("FILE")),
    ("tokens", None, Some("ID,ID,...")),
    ("n-prompt", None, Some("N")),
    ("max-new-tokens", Some('n'), Some("N")),
    ("limit", None, Some("N")),
    ("repetitions", Some('r'), Some("N")),
    ("seed", Some('s'), Some("N")),
    ("model", Some('m'), Some("DIR")),
    ("ctx-size", Some('c'), Some("N")),
    ("variant", None, Some("OP=NAME")),
    ("device", None, Some("INDEX|NAME")),
];

/// Old spellings that commands still take but no help shows: the command, the old spelling
/// with a value, the option that it sets.
const OLD: [(&str, &str, &str); 14] = [
    ("generate", "--output-format=json", "output_format"),
    ("generate", "--temp=0", "temperature"),
    ("generate", "--repeat-penalty=1", "repetition_penalty"),
    ("generate", "--n-predict=1", "max_new_tokens"),
    ("chat", "--n-predict=1", "max_new_tokens"),
    ("perplexity", "--csv=a", "tokens_csv"),
    ("eval", "--seed=1", "limit_seed"),
    ("profile", "-n1", "n_prompt"),
    ("bench model", "-p1", "n_prompt"),
    ("bench model", "-n1", "n_gen"),
    ("bench model", "-d1", "n_depth"),
    ("bench kernels", "--model=gpt2", "shapes_of"),
    ("bench kernels", "--variant=x", "filter"),
    ("bench kernels", "-ojson", "output"),
];

/// Arguments without which a command does not run.
const NEEDED: [(&str, &[&str]); 6] = [
    ("generate", &["--prompt=a"]),
    ("perplexity", &["a"]),
    ("compare", &["a", "b", "c"]),
    ("curve", &["a"]),
    ("eval", &["mmlu", "a"]),
    ("logits", &["--prompt=a", "-o=a"]),
];

/// Returns every command that can run, with its full name.
fn commands() -> Vec<(String, Command)> {
    let mut all = Vec::new();
    let mut program = super::Cli::command();
    program.build();
    for verb in program.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let leaves: Vec<_> = verb.get_subcommands().filter(|leaf| leaf.get_name() != "help").collect();
        if leaves.is_empty() {
            all.push((verb.get_name().to_owned(), verb.clone()));
        }
        let named = |leaf: &&Command| (format!("{} {}", verb.get_name(), leaf.get_name()), (*leaf).clone());
        all.extend(leaves.iter().map(named));
    }
    assert!(all.len() > 15, "{}", all.len());
    all
}

/// Returns the options that `--help` shows, by their long names.
fn options(command: &Command) -> Vec<(&str, &Arg)> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(|arg| Some((arg.get_long().filter(|&long| long != "help")?, arg))).collect()
}

fn value_name(arg: &Arg) -> Option<String> {
    let names = arg.get_value_names().filter(|_| arg.get_action().takes_values())?;
    Some(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

fn help(arg: &Arg) -> String {
    arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// Returns the index of the group of a heading; `None` for no heading.
fn group(heading: Option<&str>) -> Option<usize> {
    let heading = heading?;
    let found = GROUPS.iter().position(|group| heading.starts_with(group));
    assert!(found.is_some(), "{heading:?} is no common heading");
    found
}

#[test]
fn a_long_name_means_the_same_in_every_command() {
    let commands = commands();
    let mut seen: BTreeMap<&str, (&str, &Arg)> = BTreeMap::new();
    for (name, command) in &commands {
        for (long, arg) in options(command) {
            let &mut (first, other) = seen.entry(long).or_insert((name, arg));
            let place = format!("--{long} of {first} and of {name}");
            assert_eq!(arg.get_short(), other.get_short(), "{place}");
            assert_eq!(group(arg.get_help_heading()), group(other.get_help_heading()), "{place}");
            let (value, other_value) = (value_name(arg), value_name(other));
            if !LISTS.contains(&long) {
                assert_eq!(value, other_value, "{place}");
            }
            if !OTHER_HELP.iter().any(|&(option, _)| option == long) {
                assert_eq!(help(arg), help(other), "{place}");
            }
        }
    }
    // The exceptions are real ones.
    for (long, why) in OTHER_HELP {
        let arguments = commands.iter().flat_map(|(_, command)| options(command));
        let mut texts: Vec<_> =
            arguments.filter(|(name, _)| *name == long).map(|(_, arg)| help(arg)).collect();
        texts.dedup();
        assert!(texts.len() > 1, "--{long} has one help everywhere, though {why}");
    }
}

#[test]
fn a_short_name_means_the_same_in_every_command() {
    let commands = commands();
    let mut seen: BTreeMap<char, (&str, &str)> = BTreeMap::new();
    for (name, command) in &commands {
        for (long, arg) in options(command) {
            let Some(short) = arg.get_short() else { continue };
            let (first, other) = *seen.entry(short).or_insert((name, long));
            assert_eq!(long, other, "-{short} of {first} and of {name}");
        }
    }
}

#[test]
fn every_meaning_has_one_spelling() {
    let commands = commands();
    for (long, short, value) in MEANINGS {
        let mut found = 0;
        for (name, command) in &commands {
            for (other, arg) in options(command) {
                if other == long {
                    found += 1;
                    assert_eq!(arg.get_short(), short, "--{long} of {name}");
                    let named = value_name(arg);
                    let list =
                        LISTS.contains(&long).then(|| named.as_deref()?.strip_suffix(",...")).flatten();
                    assert_eq!(list.or(named.as_deref()), value, "--{long} of {name}");
                }
            }
        }
        assert!(found > 0, "--{long} is in no command");
    }
    // Every report can be JSON and go to a file.
    for (name, command) in &commands {
        let has = |long: &str| options(command).iter().any(|(other, _)| *other == long);
        let text = ["generate", "chat", "completions"].contains(&name.as_str());
        let binary = ["logits", "bench plot"].contains(&name.as_str());
        assert_eq!(has("output"), !text, "{name}");
        assert_eq!(has("json"), !binary && !["chat", "completions"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn specific_options_come_before_common_ones() {
    for (name, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let place = |group: &str| {
            let line = help.lines().position(|line| line.starts_with(group) && line.ends_with(':'));
            let count = help.lines().filter(|line| line.starts_with(group) && line.ends_with(':')).count();
            assert!(count <= 1, "{name}: {group} occurs {count} times");
            line
        };
        let places: Vec<_> = ["Options:"].iter().chain(&GROUPS).filter_map(|group| place(group)).collect();
        assert!(places.is_sorted(), "{name}: {places:?}\n{help}");
        // A common option has the heading of its group in every command. Positional
        // arguments have no group.
        for arg in command.get_arguments().filter(|arg| arg.is_positional()) {
            assert_eq!(arg.get_help_heading(), None, "{name}");
        }
    }
}

#[test]
fn old_spellings_are_hidden_and_still_work() {
    let commands = commands();
    for (name, old, option) in OLD {
        let (_, command) = commands.iter().find(|(other, _)| other == name).unwrap();
        let needed = NEEDED.iter().find(|(other, _)| *other == name).map_or(&[][..], |(_, needed)| needed);
        let words = [name].iter().chain(needed).chain([&old]).copied().map(String::from).collect::<Vec<_>>();
        let found = command.clone().no_binary_name(false).try_get_matches_from(words);
        let found = found.unwrap_or_else(|error| panic!("{name} {old}: {error}"));
        let source = found.value_source(option);
        assert_eq!(source, Some(clap::parser::ValueSource::CommandLine), "{name} {old}");
        let shown = command.clone().render_long_help().to_string();
        if let Some(long) = old.strip_prefix("--").and_then(|old| old.split('=').next()) {
            let still = ["model", "variant", "csv", "seed"].contains(&long);
            let named = shown.lines().any(|line| {
                line.split([' ', ',', '=', '[', ']']).any(|word| word.strip_prefix("--") == Some(long))
            });
            assert!(!named, "{name} shows {old}");
            // Names that have another meaning in other commands.
            let elsewhere =
                commands.iter().any(|(_, command)| options(command).iter().any(|(l, _)| *l == long));
            assert_eq!(elsewhere, still, "--{long}");
        }
    }
    for (name, command) in &commands {
        for (long, arg) in options(command) {
            assert_eq!(arg.get_visible_aliases().unwrap_or_default(), [""; 0], "--{long} of {name}");
            assert_eq!(arg.get_visible_short_aliases().unwrap_or_default(), [' '; 0], "--{long} of {name}");
        }
    }
}
