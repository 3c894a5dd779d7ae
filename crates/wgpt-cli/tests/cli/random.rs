//! `--random`: every command on weights without a file.

use safetensors::SafeTensors;

use crate::models::golden;
use crate::program::{wgpt, wgpt_with};

/// Small enough for a debug build, with sizes that no published model has.
const SHAPE: &str = "n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=64";

#[test]
fn the_error_of_a_bad_shape_lists_good_ones() {
    let refused = |shape: &str| {
        let run = wgpt(&["generate", "--tokens", "1", "--random", shape]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:#?}");
        run.stderr
    };
    assert!(
        refused("gpt3").contains("expected one of gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, demo")
    );
    assert!(refused("gpt2,n_layers=1").contains("expected SIZE=NUMBER with n_layer, n_embd"));
    assert!(refused("n_embd=10,n_head=3").contains("a divisor of n_embd = 10"));
    let both = wgpt(&["inspect", "--random", "gpt2", "-m", &golden("gpt2-tiny")]);
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("cannot be used with"), "{both:#?}");
}

#[test]
fn inspect_plans_a_model_without_a_file() {
    let report = wgpt(&["inspect", "--random", "gpt2-xl", "--json"]).json();
    assert_eq!(report["model"], "gpt2-xl-random");
    assert_eq!(report["parameters"], 1_557_611_200_u64);
    assert_eq!(report["file_bytes"], 0);
    assert_eq!(report["file_dtypes"].as_object().unwrap().len(), 0);
    let text = wgpt(&["inspect", "--random", SHAPE]).ok().stdout;
    assert!(text.contains("gpt2-2x48-random") && text.contains("none: random weights"), "{text}");
}

#[test]
fn generation_repeats_with_a_seed_and_takes_only_ids() {
    let ids = |seed: &str| {
        let args = ["generate", "--random", SHAPE, "--random-seed", seed, "--tokens", "1,2", "--temp", "0"];
        let json = wgpt(&[&args[..], &["-n", "12", "--output-format", "json"]].concat()).json();
        assert_eq!(json["text"], serde_json::Value::Null);
        json["token_ids"].clone()
    };
    let first = ids("3");
    assert_eq!(first.as_array().unwrap().len(), 12);
    assert_eq!(first, ids("3"));
    assert_ne!(first, ids("4"));
    let without = ["random weights have no tokenizer", "--tokens"];
    wgpt(&["generate", "--random", SHAPE, "-p", "Once"]).fails(4, &without);
    wgpt_with(&["perplexity", "--random", SHAPE, "-"], "Once upon a time", &[]).fails(4, &without);
}

#[test]
fn logits_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logits.safetensors");
    let output = path.to_str().unwrap();
    wgpt(&["logits", "--random", SHAPE, "--tokens", "1,2,3", "--output", output]).ok();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("logits").unwrap().shape(), [3, 301]);
}
