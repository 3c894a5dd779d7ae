//! The examples run, and print the results they are meant to show.
//!
//! `cargo test` builds them; with `--test api`, run `cargo build --examples` first.

use std::path::PathBuf;
use std::process::Command;

fn run(name: &str) -> String {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&path).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_generate_example_prints_a_story() {
    let text = run("generate");
    // The seed is random, so the text may be short.
    assert!(text.starts_with("Once upon a time") && text.ends_with('\n'), "{text}");
}

#[test]
fn the_chat_example_reuses_the_first_turn() {
    let text = run("chat");
    let turns: Vec<[usize; 2]> = text
        .lines()
        .filter(|line| line.ends_with(" of them reused]"))
        .map(|line| {
            let numbers: Vec<usize> =
                line[1..].split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
            numbers.try_into().unwrap()
        })
        .collect();
    let [[first, none], [second, reused]] = turns.try_into().unwrap();
    // The whole first prompt is the beginning of the second one.
    assert!(none == 0 && reused >= first && reused < second, "{text}");
    assert!(text.ends_with("4 messages\n"), "{text}");
}

#[test]
fn the_cancel_example_ends_early() {
    let text = run("cancel");
    let (_, tokens) = text.rsplit_once("ended after ").unwrap();
    let (n, reason) = tokens.split_once(" tokens: ").unwrap();
    // Some pieces are on their way when the flag is raised. The seed is random, so the
    // text may end before that.
    let n: usize = n.parse().unwrap();
    assert!(reason == "stop\n" || (reason == "cancelled\n" && n >= 20), "{text}");
}

/// The example needs the door, which is open in a test of the whole workspace.
#[test]
fn the_shared_prefix_example_shares_pages() {
    let text = run("shared_prefix");
    let lines: Vec<&str> = text.lines().collect();
    let pages = |line: &str| -> usize {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with("pages")).unwrap();
        words[at - 1].parse().unwrap()
    };
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    let tokens: usize = first.split_once(' ').unwrap().0.parse().unwrap();
    let ends: Vec<usize> = last.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(pages(first), tokens.div_ceil(16));
    // The full pages of the shared beginning exist once.
    let apart = ends[0].div_ceil(16) + ends[1].div_ceil(16);
    assert_eq!(pages(last), apart - tokens / 16, "{text}");
}

#[test]
fn the_host_device_example_decodes_greedily() {
    let text = run("host_device");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains('.') && line.len() == 13).count(), 24, "{text}");
    // Greedy decoding chooses the largest logit.
    let engine = wgpt::Engine::builder().build().unwrap();
    let tokenizer = engine.tokenizer().unwrap();
    let mut session = engine.session();
    let mut next = session.advance_greedy(&tokenizer.encode("Once upon a time").unwrap()).unwrap();
    for line in &lines[..24] {
        let found: u32 = line.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(found, next, "{text}");
        next = session.advance_greedy(&[next]).unwrap();
    }
}

#[test]
fn the_score_example_prefers_the_likelier_text() {
    let text = run("score");
    let nats: Vec<f64> =
        text.lines().map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(nats.len(), 3);
    assert!(nats[0] < nats[2], "thanks are likelier than elephants: {text}");
}
