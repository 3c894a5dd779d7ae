//! `wgpt chat` without a terminal: each line is a message.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use crate::models::repository;
use crate::program::{Run, spawn, wgpt_with};

/// The demo model was not trained on conversations; this template needs no such training.
const PLAIN: &[&str] = &["chat", "--chat-template", "plain", "--temp", "0"];

fn chat(more: &[&str], input: &str) -> Run {
    wgpt_with(&[PLAIN, more].concat(), input, &[])
}

/// Returns the prompt counts that /stats prints, as (tokens, reused tokens): of the last
/// turn and of all turns.
fn prompts(stderr: &str) -> Vec<(usize, usize)> {
    let lines = stderr.lines().filter(|line| line.ends_with(" of them reused"));
    lines
        .map(|line| {
            let numbers: Vec<usize> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
            (numbers[0], numbers[1])
        })
        .collect()
}

#[test]
fn lines_are_messages_and_stdout_has_only_answers() {
    let input = "There was a cat.\n/stats\n\nIt was \\\nred.\n/stats\n\"\"\"\nThe\n\nend.\n\"\"\"\n/stats\n";
    let run = chat(&["-n", "6"], input).ok();
    assert_eq!(run.stdout.lines().count(), 3, "{run:#?}");
    let turns = prompts(&run.stderr);
    assert_eq!(turns.len(), 6, "{run:#?}");
    let [first, _, second, _, third, all] = turns.try_into().unwrap();
    assert_eq!(first.1, 0);
    assert!(second.1 >= first.0 && second.1 < second.0, "{first:?} {second:?}");
    assert!(third.1 >= second.0 && third.1 < third.0, "{second:?} {third:?}");
    assert_eq!(all, (first.0 + second.0 + third.0, second.1 + third.1));
    for part in ["time to first token", "tokens per second", "6 tokens, length", "6 messages, "] {
        assert!(run.stderr.contains(part), "{part}: {run:#?}");
    }
    assert!(!run.stderr.contains("> ") && !run.stderr.contains('\u{1b}'), "no prompt, no colour: {run:#?}");
    // The same questions give the same answers.
    assert_eq!(chat(&["-n", "6"], input).stdout, run.stdout);
}

#[test]
fn a_conversation_can_be_saved_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json");
    let file = file.to_str().unwrap();
    let first =
        chat(&["-n", "5", "--system", "Be kind."], &format!("Tom had \"a\" dog.\n/save {file}\n")).ok();
    assert!(first.stderr.contains(&format!("(saved 3 messages to {file})")), "{first:#?}");
    let saved: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let answer = first.stdout.strip_suffix('\n').unwrap();
    assert_eq!(
        saved,
        json!({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tom had \"a\" dog."},
            {"role": "assistant", "content": answer}]})
    );

    let on = "And then?\n";
    let both = chat(&["-n", "5", "--system", "Be kind."], &format!("Tom had \"a\" dog.\n{on}")).ok();
    let loaded = chat(&["-n", "5"], &format!("/load {file}\n{on}/system\n")).ok();
    assert_eq!(both.stdout, format!("{}{}", first.stdout, loaded.stdout));
    assert!(loaded.stderr.contains("Be kind."), "{loaded:#?}");
    assert_eq!(chat(&["-n", "5", "--load", file], on).ok().stdout, loaded.stdout);

    // An existing file is replaced as a whole, and no other file is left.
    chat(&["-n", "2"], &format!("Hi\n/save {file}\n")).ok();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["talk.json"]);
}

#[test]
fn files_without_a_conversation_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.json");
    for (content, expected) in [
        (&b"{"[..], "expected a conversation in the form that /save writes"),
        (b"[]", "expected a conversation"),
        (br#"{"messages": [{"role": "user"}]}"#, "missing field `content`"),
        (br#"{"messages": [{"role": "user", "content": 1}]}"#, "invalid type: integer"),
        (br#"{"messages": [{"role": "user", "content": "a", "name": "b"}]}"#, "unknown field `name`"),
        (br#"{"messages": [{"role": "tool", "content": "a"}]}"#, "message 1: role \"tool\""),
        (
            br#"{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "a"}]}"#,
            "message 2: a system message must be the first message",
        ),
        (b"{\"messages\": [\xff]}", "expected a conversation"),
    ] {
        std::fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        chat(&["--load", path], "").fails(4, &["bad.json: ", expected]);
    }
    chat(&["--load", "no/such.json"], "").fails(4, &["cannot open no/such.json"]);
    let directory = dir.path().to_str().unwrap();
    chat(&[], &format!("/save {directory}\n")).fails(1, &["cannot write", "it is not a file"]);
    chat(&[], "/load no/such.json\n").fails(4, &["no/such.json"]);
}

#[test]
fn commands_work_as_the_help_says() {
    let run = chat(
        &["-n", "2"],
        "/help\n/system Be kind.\n/system\nHi\n/reset\n/stats\n/system -\n/system\n/exit\nHi\n",
    );
    let run = run.ok();
    assert_eq!(run.stdout.lines().count(), 1, "{run:#?}");
    for part in [
        "/save FILE",
        "(the system message is set)\nBe kind.\n",
        "(the conversation is forgotten)\n(there is no answer yet)\n",
        "(the system message is removed)\n(there is no system message)\n",
    ] {
        assert!(run.stderr.contains(part), "{part}: {run:#?}");
    }
    chat(&[], "/no\n").fails(4, &["/no: no such command; /help lists the commands"]);
    chat(&[], "/save\n").fails(4, &["/save needs a file"]);
    // A message that begins with a slash is an ordinary message.
    assert_eq!(chat(&["-n", "1"], "//etc\n").ok().stdout.lines().count(), 1);
}

#[test]
fn templates_come_from_the_model_a_file_or_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(repository("weights").join(file), model.join(file)).unwrap();
    }
    let name = model.to_str().unwrap();
    let run = |more: &[&str], input: &str| {
        wgpt_with(&[&["chat", "-m", name, "--temp", "0", "-n", "4"], more].concat(), input, &[])
    };
    run(&[], "Hi\n").fails(4, &["the model has no chat template", "--chat-template FILE", "chatml, plain"]);
    run(&["--chat-template", "none"], "Hi\n").fails(4, &["none: no file and no chat template has that name"]);

    let plain = run(&["--chat-template", "plain"], "Hi\n").ok().stdout;
    let template =
        "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}\n{% endfor %}Assistant:";
    std::fs::write(model.join("tokenizer_config.json"), json!({"chat_template": template}).to_string())
        .unwrap();
    assert_eq!(run(&[], "Hi\n").ok().stdout, plain);
    std::fs::write(model.join("chat_template.jinja"), "{{ raise_exception('mine: ' ~ colour) }}").unwrap();
    run(&["--template-var", "colour=red"], "Hi\n")
        .fails(4, &["chat_template.jinja: ", "refuses these messages: mine: red"]);
    let file = dir.path().join("own.jinja");
    std::fs::write(&file, template).unwrap();
    assert_eq!(run(&["--chat-template", file.to_str().unwrap()], "Hi\n").ok().stdout, plain);
    std::fs::write(&file, "{% for %}").unwrap();
    run(&["--chat-template", file.to_str().unwrap()], "").fails(4, &["own.jinja: line 1: syntax error"]);
    std::fs::write(model.join("tokenizer_config.json"), "{").unwrap();
    run(&["--chat-template", "plain"], "").fails(4, &["tokenizer_config.json: not valid JSON"]);
}

#[test]
fn an_answer_ends_at_any_end_token_or_stop_string() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(repository("weights").join(file), dir.path().join(file)).unwrap();
    }
    let name = dir.path().to_str().unwrap();
    let args = ["chat", "-m", name, "--chat-template", "plain", "--temp", "0", "-n", "12"];
    let say = |more: &[&str]| wgpt_with(&[&args, more].concat(), "Tom had a dog.\n/stats\n", &[]).ok();
    let whole = say(&[]);
    let text = whole.stdout.strip_suffix('\n').unwrap();
    // The answer is then made to end at this word.
    let (before, _) = text.split_once(" Tom").unwrap();
    let tokenizer = wgpt::Tokenizer::from_file(repository("weights/tokenizer.json")).unwrap();
    let tom = tokenizer.encode(" Tom").unwrap();
    assert_eq!(tom.len(), 1);
    std::fs::write(
        dir.path().join("generation_config.json"),
        json!({"eos_token_id": [5, tom[0]]}).to_string(),
    )
    .unwrap();
    let ended = say(&[]);
    assert_eq!(ended.stdout, format!("{before}\n"), "{ended:#?}");
    assert!(ended.stderr.contains(", stop\n"), "{ended:#?}");
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    assert_eq!(say(&["--stop", " Tom"]).stdout, format!("{before}\n"));
    // The same with tokenizer_config.json's eos_token, spelled as in the vocabulary.
    let written = tokenizer.id_to_token(tom[0]).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), json!({"eos_token": written}).to_string())
        .unwrap();
    assert_eq!(say(&[]).stdout, format!("{before}\n"));
}

#[test]
fn a_full_context_is_an_error_or_drops_the_oldest_turns() {
    let input = "Tell me of a big red cat.\n".repeat(6);
    let args = ["-n", "4", "--ctx-size", "64"];
    let refused = chat(&args, &input);
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    assert!(
        refused.stderr.contains("the context holds 64") && refused.stderr.contains("/reset"),
        "{refused:#?}"
    );
    assert!((1..6).contains(&refused.stdout.lines().count()));
    let dropped = chat(&[&args[..], &["--overflow", "drop"]].concat(), &input).ok();
    assert!(
        dropped.stderr.contains(" of the oldest messages were dropped to fit the context"),
        "{dropped:#?}"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_but_not_the_program() {
    let args = [PLAIN, &["--logit-bias", "0=-inf", "-n", "-1"]].concat();
    let mut child = spawn(&args);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let interrupt = || {
        let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    };
    let mut some = [0; 20];
    writeln!(stdin, "There was a cat.").unwrap();
    stdout.read_exact(&mut some).unwrap();
    interrupt();
    // Twice, as an impatient user does.
    interrupt();
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    writeln!(stdin, "/stats\nThere was a dog.").unwrap();
    stdout.read_exact(&mut some).unwrap();
    interrupt();
    stdout.read_line(&mut first).unwrap();
    writeln!(stdin, "/stats").unwrap();
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("(stopped)").count(), 2, "{stderr}");
    assert_eq!(stderr.matches(", cancelled").count(), 2, "{stderr}");
    let turns = prompts(&stderr);
    assert!(turns[2].1 >= turns[0].0, "the answer that was stopped stays cached: {turns:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_between_messages_ends_the_program() {
    let mut child = spawn(&[PLAIN, &["-n", "2"]].concat());
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "Hi").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    // The answer's line is printed before the next message is awaited.
    let status = loop {
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    drop(stdin);
    assert_eq!(status.code(), Some(130));
}
