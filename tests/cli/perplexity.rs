//! `wgpt perplexity` against transformers' figures for the same text.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use wgpt::Engine;
use wgpt::eval::perplexity::{PerplexityOptions, evaluate};

use crate::models::repository;
use crate::program::{wgpt, wgpt_with};

#[test]
fn figures_are_those_of_transformers() {
    let text = repository("tests/golden/demo-excerpt.txt");
    let golden = std::fs::read(repository("tests/golden/demo-perplexity.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let cases = golden["f64"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let stride = case["stride"].to_string();
        let args = ["--stride", &stride, "--json", "--dtype", "f32", "--kv-dtype", "f32"];
        let report = wgpt(&[&["perplexity", text.to_str().unwrap()], &args[..]].concat()).json();
        for field in ["nll", "perplexity"] {
            let (found, expected) = (report[field].as_f64().unwrap(), case[field].as_f64().unwrap());
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "stride {stride}, {field}: {found}, not {expected}"
            );
        }
        for field in ["tokens_scored", "stride"] {
            assert_eq!(report[field], case[field], "{field}");
        }
        assert_eq!(report["n_tokens"], golden["text"]["n_tokens"]);
        assert_eq!([&report["protocol"], &report["dtype"], &report["kv_dtype"]], ["hf", "f32", "f32"]);
        assert_eq!((&report["context"], &report["complete"]), (&golden["window"], &Value::Bool(true)));
        assert!(report["device"]["name"].is_string() && report["model"] == "demo");
    }
}

#[test]
fn text_goes_to_stdout() {
    let run = wgpt_with(&["perplexity", "-", "-c", "16"], "Once upon a time there was a dog.", &[]).ok();
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{run:#?}");
    for (line, label) in lines.iter().zip(["perplexity", "mean NLL", "tokens scored", "protocol", "context"])
    {
        assert!(line.starts_with(label), "{run:#?}");
    }
    assert!(lines[4].ends_with("16 tokens, stride 8"), "{run:#?}");
}

/// By the library, as a signal would come at any moment.
#[test]
fn a_cancelled_evaluation_knows_what_it_scored() {
    let engine = Engine::builder().build().unwrap();
    let tokens = vec![1; 1200];
    let flag = Arc::new(AtomicBool::new(false));
    let options = || PerplexityOptions { stride: Some(256), cancel: Some(Arc::clone(&flag)) };
    let mut windows = 0;
    let report = evaluate(&engine, &tokens, options(), &mut |_| {
        windows += 1;
        flag.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!((windows, report.tokens_scored, report.complete), (1, 511, false));
    let nothing = evaluate(&engine, &tokens, options(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(nothing, Err(wgpt::Error::Cancelled)), "{nothing:?}");
}
