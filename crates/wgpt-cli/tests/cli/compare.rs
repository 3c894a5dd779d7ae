//! `wgpt compare` on the demo model.

use crate::models::{Model, golden, repository};
use crate::program::{wgpt, wgpt_with};

const STORY: &str =
    "Once upon a time there was a little dog. He liked to play with a red ball in the park.\n";

#[test]
fn two_precisions_differ_a_little() {
    let text = repository("tests/golden/demo-excerpt.txt");
    let args =
        ["--limit", "700", "--dtype", "f32", "--kv-dtype", "f32", "--dtype-b", "f16", "--top", "3", "--json"];
    let text = text.to_str().unwrap();
    let report = wgpt(&[&["compare", "demo", "demo", text], &args[..]].concat()).json();
    // The file is f16 too, so the weights are the same and only the kernels differ.
    let [a, b] = ["a", "b"].map(|side| report[side]["perplexity"].as_f64().unwrap());
    assert!((a / b - 1.0).abs() < 1e-3 && a > 5.0, "{report}");
    assert!(report["kl"]["mean"]["mean"].as_f64().unwrap() < 1e-4, "{report}");
    assert_eq!(
        (&report["tokens_scored"], &report["context"], &report["stride"]),
        (&699.into(), &512.into(), &256.into())
    );
    assert_eq!(
        [&report["protocol"], &report["model_a"]["dtype"], &report["model_b"]["dtype"]],
        ["hf", "f32", "f16"]
    );
    assert_eq!([&report["model_a"]["kv_dtype"], &report["model_b"]["kv_dtype"]], ["f32", "f32"]);
    assert_eq!(report["model_a"]["sha256"], report["model_b"]["sha256"]);
    assert_eq!(report["data"]["sha256"].as_str().unwrap().len(), 64);
    let n_places = report["most_different"].as_array().unwrap().len();
    assert_eq!(report["most_different_texts"].as_array().unwrap().len(), n_places);
}

#[test]
fn a_model_equals_itself_and_differs_from_another() {
    let same = wgpt_with(&["compare", "demo", "demo", "-"], STORY, &[]).ok();
    assert!(same.stdout.contains("KL(A || B)      0.0000e0 +/- 0.0e0 nats per token"), "{same:#?}");
    assert!(same.stdout.contains("same top token  100.000 +/- 0.000 %"), "{same:#?}");
    assert!(!same.stdout.contains("| position"), "{same:#?}");
    // A checkpoint of a run, given by its file.
    let other = Model::demo().with_tensors(|tensors| {
        let (_, shape, bytes) = tensors.get_mut("transformer.ln_f.weight").unwrap();
        assert_eq!(shape, &[192]);
        bytes[..192].fill(0);
    });
    other.write("checkpoint-5.safetensors", &other.read("model.safetensors"));
    let path = format!("{}/checkpoint-5.safetensors", other.path());
    let report = wgpt_with(&["compare", "demo", &path, "-", "--top", "2"], STORY, &[]).ok();
    let rows: Vec<_> = report.stdout.lines().skip_while(|line| !line.starts_with("| position")).collect();
    assert_eq!(rows.len(), 4, "{report:#?}");
    assert!(rows[2].matches('"').count() == 8 && rows[2].len() >= rows[0].len(), "{report:#?}");
    assert!(report.stdout.contains("B               checkpoint-5 (f16, cache f16)"), "{report:#?}");
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let parts = ["the vocabularies differ: demo has 2048 tokens, gpt2-tiny has 1000"];
    wgpt_with(&["compare", "demo", &golden("gpt2-tiny"), "-"], STORY, &[]).fails(4, &parts);
    let swapped = Model::demo().with_file("tokenizer.json", |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let swapped = text.replacen("\"!\": 1,", "\"!\": 2,", 1).replacen("\"\\\"\": 2,", "\"\\\"\": 1,", 1);
        assert_ne!(swapped, text, "the vocabulary has another spelling in the file");
        swapped.into_bytes()
    });
    wgpt_with(&["compare", "demo", swapped.path(), "-"], STORY, &[])
        .fails(4, &["the tokenizers differ: id 1 is \"!\""]);
    wgpt_with(&["compare", "demo", "demo", "-"], "", &[]).fails(4, &["the text has 0 tokens"]);
    wgpt(&["compare", "demo", "no/such/model", "-"]).fails(4, &["no/such/model"]);
    assert_eq!(wgpt(&["compare", "demo", "demo"]).code, Some(2));
}
