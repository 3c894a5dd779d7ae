//! Checks that messages of the library name its own options, not flags of the program, and
//! that the program knows a flag for each option that a message names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// Folders whose strings may reach a user of the library.
const LIBRARIES: [&str; 2] = ["src", "crates/wgpt-eval/src"];

/// Paths in string literals that name no option, or one without a flag, and the reason.
const NO_OPTIONS: &[(&str, &str)] = &[
    ("ModelOptions::max_submit", "the program has no such flag, since it draws no frames"),
    ("Option::is_none", "an argument of serde"),
    ("Vec::is_empty", "an argument of serde"),
];

/// A string literal: its file, its line and its text.
struct Literal {
    path: PathBuf,
    line: usize,
    text: String,
}

fn all_literals() -> Vec<Literal> {
    let mut all = Vec::new();
    for dir in LIBRARIES {
        collect(Path::new(dir), &mut all);
    }
    assert!(all.len() > 1000, "the sources were not found");
    all
}

fn collect(dir: &Path, all: &mut Vec<Literal>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let found = literals(&source).into_iter();
            all.extend(found.map(|(line, text)| Literal { path: path.clone(), line, text }));
        }
    }
}

/// Returns the string literals of a source outside comments, with their lines. Escapes
/// stay as written, except that a continued line is joined.
fn literals(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").unwrap() + 2;
        } else if let Some(hashes) = raw_string(&source[..at], rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = at + "r\"".len() + hashes;
            let len = source[begin..].find(&end).unwrap();
            found.push((line_of(source, at), source[begin..begin + len].to_owned()));
            at = begin + len + end.len();
        } else if c == '"' {
            let len = string_len(&rest[1..]);
            found.push((line_of(source, at), joined(&rest[1..1 + len])));
            at += len + 2;
        } else if c == '\'' {
            at += char_len(rest);
        } else {
            at += c.len_utf8();
        }
    }
    found
}

/// Returns the number of `#` of a raw string that `rest` begins with.
fn raw_string(before: &str, rest: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?;
    let text = hashes.trim_start_matches('#');
    let is_name = before.trim_end_matches('b').ends_with(|c: char| c.is_alphanumeric() || c == '_');
    (text.starts_with('"') && !is_name).then_some(hashes.len() - text.len())
}

/// Returns the length of a string's text up to its closing quote.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let is_end = |(_, c): &(usize, char)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    };
    text.char_indices().find(is_end).unwrap().0
}

/// Returns the length of a character literal, or 1 for the quote of a lifetime.
fn char_len(text: &str) -> usize {
    let mut chars = text[1..].chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), Some(c)) => {
            let begin = 2 + c.len_utf8();
            begin + text[begin..].find('\'').unwrap() + 1
        }
        (Some(c), Some('\'')) => 1 + c.len_utf8() + 1,
        _ => 1,
    }
}

/// Removes the ends of lines that a backslash continues, and the white space after them.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

fn line_of(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

/// Returns whether a text has a flag such as `--dtype`.
fn has_flag(text: &str) -> bool {
    text.match_indices("--").any(|(at, _)| text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Returns whether a text has a command of the program such as `wgpt eval`.
fn has_command(text: &str, verbs: &[String]) -> bool {
    text.match_indices("wgpt ").any(|(at, name)| {
        let after = &text[at + name.len()..];
        let word = after.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        verbs.iter().any(|verb| verb == word)
    })
}

/// Returns the program's commands, from its `enum Verb`.
fn verbs() -> Vec<String> {
    let source = std::fs::read_to_string("crates/wgpt-cli/src/main.rs").unwrap();
    let (_, after) = source.split_once("enum Verb {").unwrap();
    let (block, _) = after.split_once('}').unwrap();
    let names = block.lines().filter_map(|line| line.trim().split_once('('));
    let verbs: Vec<String> = names.map(|(name, _)| name.to_lowercase()).collect();
    assert!(verbs.contains(&"generate".to_owned()) && verbs.len() > 10, "{verbs:?}");
    verbs
}

/// Returns the paths `Type::member` of a text.
fn paths(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let path = |(at, _): (usize, &str)| {
        let owner = text[..at].rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let member = text[at + 2..].split(|c| !is_word(c)).next().unwrap_or_default();
        let is_option = owner.starts_with(|c: char| c.is_ascii_uppercase()) && !member.is_empty();
        is_option.then(|| &text[at - owner.len()..at + 2 + member.len()])
    };
    text.match_indices("::").filter_map(path).collect()
}

#[test]
fn messages_name_no_flags_of_the_program() {
    let verbs = verbs();
    let faults: Vec<String> = all_literals()
        .iter()
        .filter(|literal| has_flag(&literal.text) || has_command(&literal.text, &verbs))
        .map(|Literal { path, line, text }| format!("{}:{line}: {text:?}", path.display()))
        .collect();
    assert!(
        faults.is_empty(),
        "name the library's option, and give its flag in crates/wgpt-cli/src/flags.rs:\n{}",
        faults.join("\n")
    );
}

#[test]
fn the_program_knows_every_option_that_a_message_names() {
    let table = std::fs::read_to_string("crates/wgpt-cli/src/flags.rs").unwrap();
    let (_, table) = table.split_once("const FLAGS").unwrap();
    let (table, _) = table.split_once("];").unwrap();
    let known: Vec<String> = literals(table).into_iter().map(|(_, text)| text).collect();
    let literals = all_literals();
    let named: Vec<&str> = literals.iter().flat_map(|literal| paths(&literal.text)).collect();
    assert!(named.contains(&"ModelOptions::kv_dtype"));
    let is_known = |path: &str| known.iter().any(|known| known == path);
    let is_none = |path: &str| NO_OPTIONS.iter().any(|(none, _)| *none == path);
    let unknown: Vec<&str> = named.iter().copied().filter(|path| is_known(path) == is_none(path)).collect();
    assert!(unknown.is_empty(), "add the flags of these to crates/wgpt-cli/src/flags.rs: {unknown:?}");
    for (path, _) in NO_OPTIONS {
        assert!(named.contains(path), "no string names {path}: remove it from NO_OPTIONS");
    }
}

#[test]
fn literals_are_recognised() {
    let source = r##"
        // "a comment"
        /// "a docstring"
        let a = "one \" \\"; /* "a block" */ let b = '"'; let c = '\''; let d: &'static str = "two";
        let e = r#"three " "#; let f = br"four"; let g = "five \
            six"; let h = '\u{22}'; let i = r"seven\";
        let j = "äöü // eight";
    "##;
    let found: Vec<(usize, String)> = literals(source);
    let expected = [
        (4, "one \\\" \\\\"),
        (4, "two"),
        (5, "three \" "),
        (5, "four"),
        (5, "five six"),
        (6, "seven\\"),
        (7, "äöü // eight"),
    ];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}

#[test]
fn flags_commands_and_options_are_recognised() {
    let verbs = ["eval".to_owned()];
    assert!(has_flag("use --dtype f32") && has_flag("(--n)"));
    assert!(!has_flag("a -- b") && !has_flag("-----BEGIN") && !has_flag("i--"));
    assert!(has_command("run wgpt eval --resume", &verbs) && has_command("`wgpt eval`", &verbs));
    assert!(!has_command("wgpt evaluates", &verbs) && !has_command("wgpt needs", &verbs));
    assert_eq!(
        paths("use (ModelOptions::dtype = f32), Chat::reset."),
        ["ModelOptions::dtype", "Chat::reset"]
    );
    assert!(paths("wgpt::required, a: b, {a}::{b}").is_empty());
}
