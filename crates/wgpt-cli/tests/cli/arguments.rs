//! Usage, prompts and parameters: refusals and their exit codes.

use std::fs;

use crate::models::golden;
use crate::program::{wgpt, wgpt_with};

#[test]
fn usage_errors_exit_with_2() {
    let tiny = golden("gpt2-tiny");
    let cases: &[&[&str]] = &[
        &[],
        &["sing"],
        &["generate"],
        &["generate", "-p", "a", "--tokens", "1"],
        &["generate", "-p", "a", "-"],
        &["generate", "prompt without a flag"],
        &["generate", "-p", "a", "--warp", "9"],
        &["generate", "-p", "a", "--temp", "hot"],
        &["generate", "-p", "a", "-n", "-2"],
        &["generate", "-p", "a", "--dtype", "f64"],
        &["generate", "-p", "a", "--backend", "opengl"],
        &["generate", "-p", "a", "--logit-bias", "262"],
        &["generate", "-m", &tiny, "--tokens", "1,x"],
        &["generate", "-m", &tiny, "--tokens", "-1"],
        &["logits", "-p", "a"],
        &["perplexity"],
        &["perplexity", "a.txt", "--protocol", "gguf"],
        &["perplexity", "a.txt", "--bos", "perhaps"],
        &["perplexity", "a.txt", "--documents", ""],
        &["perplexity", "a.txt", "--limit", "-1"],
        &["bench"],
        &["bench", "model", "-r", "0"],
        &["completions", "tcsh9"],
        &["tune", "--seconds", "-1"],
        &["doctor", "--seconds", "-1"],
        &["tune", "--seconds", "soon"],
        &["generate", "-p", "a", "--tune-seconds", "nan"],
        &["inspect", "--random", "gpt2", "-m", &tiny],
        &["inspect", "--random", "gpt3"],
        &["inspect", "--random", "n_layer=0"],
        &["inspect", "--random", "gpt2,n_head=7"],
        &["inspect", "--random", "gpt2,width=7"],
        &["inspect", "--random-seed", "7"],
    ];
    for args in cases {
        let run = wgpt(args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}: {run:#?}");
        assert!(run.stderr.contains("--help"), "{args:?}: {run:#?}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    assert_eq!(wgpt(&["--version"]).ok().stdout, format!("wgpt {}\n", env!("CARGO_PKG_VERSION")));
    let help = wgpt(&["generate", "--help"]).ok();
    for flag in ["--model", "--kv-dtype", "--features-floor", "--deterministic", "WGPT_DEVICE", "Examples:"] {
        assert!(help.stdout.contains(flag), "{flag}: {help:#?}");
    }
    assert_eq!(help.stderr, "");
}

#[test]
fn completions_contain_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = wgpt(&["completions", shell]).ok().stdout;
        assert!(script.contains("perplexity") && script.contains("max-new-tokens"), "{shell}: {script}");
    }
}

#[test]
fn parameters_out_of_range_exit_with_4() {
    let cases: &[(&[&str], &str)] = &[
        (&["--temp", "-1"], "temperature = -1: expected a finite number, at least 0"),
        (&["--temperature", "nan"], "temperature = NaN"),
        (&["--top-p", "0"], "top_p = 0: expected above 0 and at most 1"),
        (&["--top-p", "1.5"], "top_p = 1.5"),
        (&["--min-p", "-0.1"], "min_p = -0.1"),
        (&["--repeat-penalty", "0"], "repetition_penalty = 0"),
        (&["--frequency-penalty", "inf"], "frequency_penalty = inf"),
        (&["--logit-bias", "5=nan"], "logit_bias of token 5 = NaN"),
        (&["--logit-bias", "2048+1"], "token 2048 is not in the vocabulary of 2048 tokens"),
        (&["--logprobs", "2049"], "logprobs: expected at most 2048"),
        (&["--stop", ""], "stop string 1 of 1 is empty"),
        (&["--ctx-size", "513"], "a context of 513 positions: this model takes 1 to 512"),
        (&["--ctx-size", "0"], "a context of 0 positions"),
        (&["--prefill-chunk", "0"], "a prefill chunk of 0 tokens"),
    ];
    for (flags, message) in cases {
        wgpt(&[&["generate", "-p", "Once"], *flags].concat()).fails(4, &[message]);
    }
}

#[test]
fn a_prompt_must_fit_the_vocabulary_and_the_context() {
    let tiny = golden("gpt2-tiny");
    wgpt(&["generate", "-m", &tiny, "--tokens", "1,1000"])
        .fails(4, &["token 1000 is outside the vocabulary of 1000 tokens"]);
    let long = ["generate", "-m", &tiny, "--tokens", "1,2,3,4,5", "--ctx-size", "4", "-n", "3"];
    wgpt(&long).fails(4, &["the prompt has 5 tokens, but the context holds 4", "--overflow slide"]);
    let slid = wgpt(&[&long[..], &["--overflow", "slide", "--output-format", "json"]].concat()).json();
    assert_eq!(slid["token_ids"].as_array().unwrap().len(), 3);
    let output = tempfile::tempdir().unwrap();
    let file = output.path().join("x.safetensors");
    let file = file.to_str().unwrap();
    wgpt(&["logits", "-m", &tiny, "--tokens", "1,2,3", "--ctx-size", "2", "--output", file])
        .fails(4, &["3 tokens after 0 exceed the context of 2 positions"]);
    wgpt(&["logits", "-p", "", "--output", file]).fails(4, &["the prompt has no tokens"]);
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
}

#[test]
fn prompt_files_must_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("latin1.txt");
    fs::write(&file, b"caf\xE9").unwrap();
    let file = file.to_str().unwrap();
    wgpt(&["generate", "--prompt-file", file]).fails(4, &["latin1.txt", "byte 3 is not UTF-8"]);
    wgpt(&["perplexity", file]).fails(4, &["latin1.txt", "byte 3 is not UTF-8"]);
    wgpt(&["generate", "--prompt-file", "no/such.txt"]).fails(4, &["cannot read no/such.txt"]);
    wgpt(&["perplexity", "no/such.txt"]).fails(4, &["cannot read no/such.txt"]);
    wgpt(&["perplexity", dir.path().to_str().unwrap()]).fails(4, &["cannot read"]);
}

#[test]
fn perplexity_names_the_fault_of_a_text() {
    let once = "Once upon a time";
    let fails = |args: &[&str], stdin: &str, parts: &[&str]| {
        wgpt_with(&[&["perplexity", "-"], args].concat(), stdin, &[]).fails(4, parts);
    };
    fails(&[], "", &["stdin: the file is empty"]);
    fails(&[], " \n\n", &["stdin: the file contains only white space"]);
    fails(&[], "a", &["stdin: the text has 1 token, but protocol hf needs at least 2"]);
    fails(&["--stride", "0"], once, &["stride 0: expected 1 to 512, the length of the context"]);
    fails(&["--stride", "33", "-c", "32"], once, &["stride 33: expected 1 to 32, the length of the context"]);
    fails(&["--protocol", "llama"], once, &["stdin: the text has 4 tokens", "a whole window of 512"]);
    fails(&["--protocol", "llama", "--stride", "8"], once, &["only protocol hf takes a stride", "llama"]);
    fails(&["--bos", "never"], once, &["only with protocol llama", "hf"]);
    fails(&["--protocol", "segments", "--documents", "rows"], once, &["--documents rows", "segments"]);
    fails(&["--documents", "<|end|>"], once, &["\"<|end|>\" occurs in none of the files"]);
    fails(&["--documents", "<|end|>"], " <|end|> ", &["stdin: --documents finds no document"]);
    fails(&["-"], once, &["stdin (-) is named more than once"]);
    fails(&["--limit", "0"], once, &["a limit of 0"]);
    wgpt_with(&["perplexity", "-", "--html", "no/such/folder/a.html"], once, &[])
        .fails(1, &["cannot write no/such/folder/a.html"]);
    fails(&["--html", "a.out", "--csv", "a.out"], once, &["name the same file"]);
}
