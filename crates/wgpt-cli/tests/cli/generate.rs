//! `wgpt generate`: ids, text, timings, the order of defaults.

use serde_json::Value;

use crate::models::{Model, golden, golden_ids};
use crate::program::{ids, joined, spawn, wgpt, wgpt_with};

const JSON: &[&str] = &["--output-format", "json"];

fn generate(args: &[&str]) -> Value {
    wgpt(&[&["generate"], args, JSON].concat()).json()
}

#[test]
fn greedy_ids_match_transformers() {
    let tiny = golden("gpt2-tiny");
    let greedy = golden_ids("gpt2-tiny", "greedy_ids");
    let (prompt, expected) = greedy.split_at(8);
    let (prompt, n) = (joined(prompt), expected.len().to_string());
    let args = ["-m", &tiny, "--tokens", &prompt, "-n", &n, "--temp", "0", "--ignore-eos"];
    let f32 = ["--dtype", "f32", "--kv-dtype", "f32"];
    for mode in [&[][..], &["--features-floor"], &["--deterministic"], &["--prefill-chunk", "3"]] {
        let report = generate(&[&args[..], &f32, mode].concat());
        assert_eq!(ids(&report["token_ids"]), expected, "{mode:?}");
        assert_eq!(ids(&report["input_ids"]), greedy[..8]);
        assert_eq!(report["text"], Value::Null);
        assert_eq!(report["finish_reason"], "length");
        assert_eq!(report["features_floor"], mode == ["--features-floor"]);
        assert_eq!(report["deterministic"], mode == ["--deterministic"]);
        assert_eq!([&report["dtype"], &report["kv_dtype"], &report["model"]], ["f32", "f32", "gpt2-tiny"]);
    }
    // Without a tokenizer, text mode prints the ids.
    let text = wgpt(&[&["generate"], &args[..], &f32].concat()).ok();
    let expected: Vec<_> = expected.iter().map(u64::to_string).collect();
    assert_eq!(text.stdout, expected.join(" ") + "\n");
}

#[test]
fn steps_ahead_and_variants_change_no_token() {
    let args = ["-p", "Once upon a time", "-n", "30", "--seed", "11"];
    let expected = generate(&args);
    for more in [&["--steps-ahead", "4"][..], &["--steps-ahead", "0"], &["--variant", "gemm=tile_64x64"]] {
        let report = generate(&[&args[..], more].concat());
        assert_eq!(report["token_ids"], expected["token_ids"], "{more:?}");
        assert_eq!(report["text"], expected["text"]);
    }
    let wrong = |more: &[&str]| wgpt(&[&["generate"], &args[..], more].concat());
    wrong(&["--steps-ahead", "17"]).fails(2, &["17", "0..=16"]);
    wrong(&["--variant", "gemm=none"]).fails(2, &["gemm=none", "tile_64x64"]);
    let impossible = ["--variant", "gemm=per_thread_4x8_quad", "--features-floor"];
    wrong(&impossible).fails(4, &["gemm=per_thread_4x8_quad", "Int64"]);
}

#[test]
fn prompt_lookup_keeps_the_text_and_reports_accepted_tokens() {
    let prompt = "Tom had a red ball. Tom had a red ball. Tom had a";
    let args = ["-p", prompt, "-n", "20", "--temp", "0", "--deterministic"];
    let plain = generate(&args);
    assert!(plain["timings"]["prompt_lookup"].is_null(), "{plain:#}");
    let drafted = generate(&[&args[..], &["--prompt-lookup", "5"]].concat());
    assert_eq!([&drafted["token_ids"], &drafted["text"]], [&plain["token_ids"], &plain["text"]]);
    let number = |name: &str| drafted["timings"]["prompt_lookup"][name].as_u64().unwrap();
    let (passes, accepted) = (number("passes"), number("accepted_tokens"));
    assert!(accepted > 0 && accepted <= number("drafted_tokens"), "{drafted:#}");
    assert_eq!(passes + accepted, drafted["timings"]["generated_tokens"].as_u64().unwrap());
    let text = wgpt(&[&["generate"], &args[..], &["--prompt-lookup", "5"]].concat()).ok();
    let told =
        format!("lookup accepted {accepted} of {} drafts in {passes} passes", number("drafted_tokens"));
    assert!(text.stderr.contains(&told), "{}", text.stderr);
}

#[test]
fn prompt_lookup_requires_greedy_decoding() {
    for args in [&["--temp", "0.5"][..], &["--temp", "0", "--logprobs", "2"]] {
        let args = [&["generate", "-p", "x", "--prompt-lookup", "5"], args].concat();
        wgpt(&args).fails(4, &["needs temperature 0"]);
    }
    wgpt(&["generate", "-p", "x", "--temp", "0", "--prompt-lookup", "16"]).fails(2, &["--prompt-lookup"]);
}

#[test]
fn the_report_contains_times_rates_and_the_device() {
    let report = generate(&["-p", "Once upon a time", "-n", "8", "--temp", "0"]);
    let timings = &report["timings"];
    let positive = |name: &str| {
        let value = timings[name].as_f64().unwrap_or_else(|| panic!("{name}: {report:#}"));
        assert!(value > 0.0, "{name}: {report:#}");
        value
    };
    let n_prompt = report["input_ids"].as_array().unwrap().len();
    assert_eq!(timings["prompt_tokens"], n_prompt);
    assert_eq!(timings["generated_tokens"], 8);
    let prompt = n_prompt as f64 / positive("prompt_ms") * 1e3;
    assert!((positive("prompt_per_second") / prompt - 1.0).abs() < 1e-3);
    // The first of the 8 tokens was computed with the prompt.
    let generation = 7.0 / positive("generation_ms") * 1e3;
    assert!((positive("generation_per_second") / generation - 1.0).abs() < 1e-3);
    assert!(positive("first_token_ms") >= positive("load_ms") + positive("prompt_ms") * 0.99);
    for field in ["name", "backend", "driver", "driver_info", "type", "strategy"] {
        assert!(report["device"][field].is_string(), "{field}: {report:#}");
    }
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["logprobs"].is_null());
    assert!(report["text"].as_str().unwrap().len() > 8);
}

#[test]
fn generating_no_token_is_no_error() {
    let report = generate(&["-p", "Once", "-n", "0"]);
    assert_eq!(report["token_ids"], Value::Array(vec![]));
    assert_eq!([&report["text"], &report["finish_reason"]], ["", "length"]);
    assert_eq!(report["timings"]["generation_per_second"], Value::Null);
    let text = wgpt(&["generate", "-p", "Once", "-n", "0"]).ok();
    assert_eq!(text.stdout, "");
}

#[test]
fn a_seed_repeats_the_text_and_stdout_has_nothing_else() {
    let args = ["generate", "-p", "Once upon a time", "-n", "24", "--ignore-eos"];
    let seeded = [&args[..], &["-s", "7"]].concat();
    let report = wgpt(&[&seeded[..], JSON].concat()).json();
    let expected = format!("{}\n", report["text"].as_str().unwrap().trim_end_matches('\n'));
    let first = wgpt(&seeded).ok();
    assert_eq!(first.stdout.trim_end_matches('\n'), expected.trim_end_matches('\n'));
    assert!(first.stdout.ends_with('\n'));
    assert!(first.stderr.contains("seed 7]") && first.stderr.contains("[length | prompt"), "{first:#?}");
    assert_eq!(wgpt(&seeded).ok().stdout, first.stdout);
    assert_eq!(report["seed"], 7);
    let other = wgpt(&[&args[..], &["-s", "8"]].concat()).ok();
    assert_ne!(other.stdout, first.stdout);
    // A random seed is reported, and it is the one in use.
    let random = wgpt(&[&args[..], JSON].concat()).json();
    let seed = random["seed"].as_u64().unwrap().to_string();
    let again = wgpt(&[&args[..], JSON, &["--seed", &seed]].concat()).json();
    assert_eq!(again["token_ids"], random["token_ids"]);
}

#[test]
fn prompts_come_from_a_flag_a_file_or_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    std::fs::write(&file, "Once upon a time\r\n").unwrap();
    let few = ["-n", "2", "--temp", "0"];
    let from = |args: &[&str], stdin: &str| {
        let run = wgpt_with(&[&["generate"], args, &few, JSON].concat(), stdin, &[]);
        let report = run.json();
        (report["input_ids"].clone(), report["token_ids"].clone())
    };
    let expected = from(&["-p", "Once upon a time"], "");
    assert_eq!(from(&["--prompt-file", file.to_str().unwrap()], ""), expected);
    assert_eq!(from(&["-"], "Once upon a time\n"), expected);
    assert_eq!(from(&["--prompt-file", "-"], "Once upon a time"), expected);
    let tokens = joined(&ids(&expected.0));
    assert_eq!(from(&["--tokens", &tokens], ""), expected);
}

#[test]
fn an_empty_prompt_starts_a_new_text() {
    for (args, stdin) in [(&["-p", ""][..], ""), (&["-"], "\n")] {
        let run = wgpt_with(&[&["generate", "-n", "3"], args, JSON].concat(), stdin, &[]);
        assert_eq!(ids(&run.json()["input_ids"]), [0], "the demo's end-of-text token");
    }
}

#[test]
fn stop_strings_end_the_text_and_are_omitted() {
    let args = ["-p", "Once upon a time", "-n", "30", "--temp", "0"];
    let whole = generate(&args);
    let text = whole["text"].as_str().unwrap();
    // Seven characters span at least two tokens of this vocabulary.
    let stop = &text[12..19];
    let stopped = generate(&[&args[..], &["--stop", "never to be found", "--stop", stop]].concat());
    assert_eq!(stopped["text"], text[..text.find(stop).unwrap()]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert!(stopped["token_ids"].as_array().unwrap().len() < 30);
}

#[test]
fn a_time_limit_ends_the_text_with_its_own_exit_code() {
    let args = ["generate", "-p", "Once upon a time", "-n", "-1", "--ignore-eos", "--overflow", "slide"];
    let none = wgpt(&[&args[..], JSON, &["--timeout", "0"]].concat());
    assert_eq!(none.code, Some(124), "{none:#?}");
    let report: Value = serde_json::from_str(&none.stdout).unwrap();
    assert_eq!(report["finish_reason"], "timeout");
    assert_eq!(ids(&report["token_ids"]), [0; 0]);
    // A text without another end.
    let some = wgpt(&[&args[..], &["--timeout", "1.5"]].concat());
    assert_eq!(some.code, Some(124), "{some:#?}");
    assert!(some.stdout.ends_with('\n') && some.stderr.contains("[timeout | prompt"), "{some:#?}");
    // This text ends before its limit.
    wgpt(&["generate", "-p", "Once", "-n", "2", "--timeout", "3600"]).ok();
    wgpt(&["generate", "-p", "Once", "--timeout", "soon"]).fails(2, &["--timeout <SECONDS>", "soon"]);
    wgpt(&["generate", "-p", "Once", "--timeout", "-1"]).fails(2, &[]);
}

#[test]
fn end_of_text_tokens_end_the_text_unless_ignored() {
    let args = ["-p", "The end", "-n", "5", "--temp", "0", "--logit-bias", "0=1000"];
    let ended = generate(&args);
    assert_eq!((ids(&ended["token_ids"]), &ended["finish_reason"]), (vec![], &"stop".into()));
    let ignored = generate(&[&args[..], &["--ignore-eos"]].concat());
    assert_eq!((ids(&ignored["token_ids"]), &ignored["finish_reason"]), (vec![0; 5], &"length".into()));
}

#[test]
fn flags_override_the_models_defaults() {
    let defaults = br#"{"do_sample": false, "top_k": 3, "repetition_penalty": 1.5, "max_new_tokens": 5}"#;
    let model = Model::demo().with_file("generation_config.json", |_| defaults.to_vec());
    let of_model = generate(&["-m", model.path(), "-p", "Once"]);
    let sampling = &of_model["sampling"];
    assert_eq!(of_model["token_ids"].as_array().unwrap().len(), 5);
    assert_eq!([&sampling["temperature"], &sampling["top_k"], &sampling["top_p"]], [0.0, 3.0, 0.95]);
    assert_eq!(sampling["repetition_penalty"], 1.5);
    let flags = ["--temp", "0.5", "--top-k", "7", "--repeat-penalty", "1.1", "-n", "2"];
    let of_flags = generate(&[&["-m", model.path(), "-p", "Once"], &flags[..]].concat());
    let sampling = &of_flags["sampling"];
    assert_eq!(of_flags["token_ids"].as_array().unwrap().len(), 2);
    assert_eq!([&sampling["temperature"], &sampling["top_k"], &sampling["top_p"]], [0.5, 7.0, 0.95]);
    assert_eq!(sampling["repetition_penalty"], 1.1);
    let plain = generate(&["-p", "Once", "-n", "1"]);
    assert_eq!([&plain["sampling"]["temperature"], &plain["sampling"]["top_k"]], [0.8, 40.0]);
}

#[test]
fn max_length_includes_the_prompt() {
    let model = Model::demo().with_file("generation_config.json", |_| b"{\"max_length\": 6}".to_vec());
    let report = generate(&["-m", model.path(), "--tokens", "1,2,3,4", "--ignore-eos"]);
    assert_eq!(report["token_ids"].as_array().unwrap().len(), 2);
    wgpt(&["generate", "-m", model.path(), "--tokens", "1,2,3,4,5,6"])
        .fails(4, &["max_length = 6", "a prompt of 6 tokens", "--max-new-tokens"]);
}

#[test]
fn a_full_context_ends_the_text_or_slides() {
    let tiny = golden("gpt2-tiny");
    let args = ["-m", &tiny, "--tokens", "1,2,3", "-c", "8", "--ignore-eos", "--temp", "0"];
    let stopped = generate(&[&args[..], &["-n", "-1"]].concat());
    // 8 positions: 3 for the prompt, 5 for generated tokens that were run; one more token
    // follows them.
    assert_eq!(stopped["token_ids"].as_array().unwrap().len(), 6);
    assert_eq!(stopped["finish_reason"], "length");
    let slid = generate(&[&args[..], &["-n", "20", "--overflow", "slide"]].concat());
    assert_eq!(slid["token_ids"].as_array().unwrap().len(), 20);
    assert_eq!(ids(&slid["token_ids"])[..6], ids(&stopped["token_ids"])[..]);
}

#[test]
fn log_probabilities_are_sorted_and_match_the_tokens() {
    let args = ["-p", "Once upon a time", "-n", "4", "--temp", "0", "--logprobs", "3"];
    let report = generate(&args);
    let scores = report["logprobs"].as_array().unwrap();
    assert_eq!(scores.len(), 4);
    for (score, id) in scores.iter().zip(ids(&report["token_ids"])) {
        assert_eq!(score["token"], id);
        let top: Vec<f64> =
            score["top"].as_array().unwrap().iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 3);
        assert!(top.is_sorted_by(|a, b| a >= b) && top[0] <= 0.0, "{score}");
        assert_eq!(
            [&score["logprob"], &score["token"]],
            [&score["top"][0]["logprob"], &score["top"][0]["token"]]
        );
    }
    let texts: String = scores.iter().map(|score| score["text"].as_str().unwrap()).collect();
    assert_eq!(texts, report["text"].as_str().unwrap());
    let text = wgpt(&[&["generate"], &args[..]].concat()).ok();
    assert!(!text.stdout.contains("most likely tokens"));
    assert!(text.stderr.contains("token: log-probability | most likely tokens"), "{text:#?}");
}

#[test]
fn echo_prints_the_prompt_first() {
    let args = ["generate", "-p", "Once upon a time", "-n", "3", "--temp", "0"];
    let plain = wgpt(&args).ok().stdout;
    let echoed = wgpt(&[&args[..], &["--echo"]].concat()).ok().stdout;
    assert_eq!(echoed, format!("Once upon a time{plain}"));
}

#[test]
fn a_saved_session_continues_without_rerunning_its_text() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("story.session");
    let path = path.to_str().unwrap();
    let args = ["--temp", "0", "--deterministic", "--ignore-eos"];
    let whole = generate(&[&args[..], &["-p", "Once upon a time", "-n", "30"]].concat());
    let first =
        generate(&[&args[..], &["-p", "Once upon a time", "-n", "12", "--save-session", path]].concat());
    let rest = ["-p", "", "-n", "18", "--session", path, "--save-session", path];
    let second = generate(&[&args[..], &rest].concat());
    let expected = ids(&whole["token_ids"]);
    assert_eq!([ids(&first["token_ids"]), ids(&second["token_ids"])].concat(), expected);
    assert_eq!(second["timings"]["prompt_tokens"], 1);
    assert_eq!(
        ids(&second["input_ids"]),
        [ids(&first["input_ids"]), ids(&first["token_ids"])].concat(),
        "the previous text comes first"
    );
    // In text mode, with a prompt appended: the file now holds the longer text.
    let more = ["generate", "-p", " The end.", "-n", "1", "--echo", "--session", path];
    let text = wgpt(&[&more[..], &args].concat()).ok();
    assert!(
        text.stdout.starts_with(&format!("Once upon a time{}", whole["text"].as_str().unwrap())),
        "{text:?}"
    );
    assert!(text.stdout.contains(" The end."), "{text:?}");
    // Faults are reported.
    let resume = |args: &[&str]| wgpt(&[&["generate", "-p", "", "-n", "1"], args].concat());
    resume(&["--session", "none.session"]).fails(4, &["none.session"]);
    let tiny = golden("gpt2-tiny");
    wgpt(&["generate", "-m", &tiny, "--tokens", "1", "-n", "1", "--session", path])
        .fails(4, &["story.session", "another model"]);
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    resume(&["--session", path]).fails(4, &["story.session", "cut short"]);
    resume(&["--save-session", "missing-directory/x"]).fails(1, &["missing-directory"]);
    let config = format!("{tiny}/config.json");
    wgpt(&["generate", "-m", &tiny, "--tokens", "1", "--save-session", &config])
        .fails(4, &["config.json", "this is a file of the model"]);
}

#[test]
#[cfg(unix)]
fn a_session_never_overwrites_an_input_file() {
    // The layout of Hugging Face's cache: symbolic links to files with other names.
    let dir = tempfile::TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (blobs, model) = (at("blobs"), at("model"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::create_dir(&model).unwrap();
    for (i, file) in ["config.json", "model.safetensors"].iter().enumerate() {
        let blob = blobs.join(i.to_string());
        std::fs::copy(format!("{}/{file}", golden("gpt2-tiny")), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, model.join(file)).unwrap();
    }
    let prompt = at("prompt.txt");
    std::fs::write(&prompt, "Once upon a time").unwrap();
    let pipe = at("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();

    let tiny = text(&model);
    for target in [model.join("model.safetensors"), blobs.join("1")] {
        let before = std::fs::read(&target).unwrap();
        wgpt(&["generate", "-m", &tiny, "--tokens", "1", "-n", "1", "--save-session", &text(&target)])
            .fails(4, &["this is a file of the model"]);
        assert!(std::fs::read(&target).unwrap() == before);
    }
    let prompt = text(&prompt);
    wgpt(&["generate", "--prompt-file", &prompt, "-n", "1", "--save-session", &prompt])
        .fails(4, &["prompt.txt", "would overwrite the input"]);
    wgpt(&["generate", "-p", "", "-n", "1", "--session", &text(&pipe)])
        .fails(4, &["pipe", "expected a saved session"]);

    // A reader that closes the pipe early does not affect the session.
    let saved = text(&at("cut.session"));
    let more = ["-p", "Lily", "-n", "60", "--seed", "1", "--ignore-eos", "--save-session", &saved];
    let mut child = spawn(&[&["generate"], &more[..]].concat());
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    wgpt(&["generate", "-p", "", "-n", "1", "--session", &saved]).ok();
}
