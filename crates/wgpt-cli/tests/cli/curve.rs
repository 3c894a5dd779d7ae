//! `wgpt curve`: checkpoints on texts, logs, pictures.

use std::fs;

use serde_json::Value;

use crate::models::{Model, repository};
use crate::program::{spawn, wgpt};

const STORY: &str = "Once upon a time there was a little dog. He liked to play with a red ball in the park.";
/// Business prose, unlike a story.
const OTHER: &str = "The quarterly figures exceeded all expectations of the board of directors.";

/// Returns the demo model's weights as two checkpoints of a run, with two texts.
fn run() -> (Model, [String; 3]) {
    let model = Model::demo();
    let weights = model.read("model.safetensors");
    model.write("checkpoint-20.safetensors", &weights);
    model.write("checkpoint-3.safetensors", &weights);
    model.write("train.txt", STORY.as_bytes());
    model.write("held.txt", OTHER.as_bytes());
    let paths = ["train.txt", "held.txt", "out.svg"].map(|file| format!("{}/{file}", model.path()));
    (model, paths)
}

#[test]
fn checkpoints_are_evaluated_drawn_and_drawn_again() {
    let (model, [train, held, plot]) = run();
    let args = ["curve", model.path(), "--train", &train, "--validation", &held, "--plot", &plot, "--json"];
    let run = wgpt(&args).ok();
    assert!(
        run.stderr.contains("model.safetensors is left out, because its name has no step: add it as STEP="),
        "{run:#?}"
    );
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let points = report["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["step"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 20]);
    for (text, series) in [(&train, "train"), (&held, "validation")] {
        let alone = wgpt(&["perplexity", "-m", model.path(), text, "--json"]).json();
        for point in points {
            let (found, expected) = (point[series].as_f64().unwrap(), alone["nll"].as_f64().unwrap());
            assert!((found / expected - 1.0).abs() < 1e-5, "{series}: {found}, not {expected}");
        }
    }
    assert_eq!(report["diagnosis"]["kind"], "too_few_points");
    let evaluation = &report["evaluation"];
    assert_eq!([&evaluation["protocol"], &evaluation["dtype"]], ["hf", "f16"]);
    assert_eq!((&evaluation["complete"], &evaluation["bos"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(evaluation["checkpoints"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(evaluation["train_data"]["file"], train.as_str());
    assert!(evaluation["device"]["name"].is_string() && report["n_parameters"] == 2_271_360);
    let picture = fs::read_to_string(&plot).unwrap();
    assert!(picture.contains("too few points: 2") && picture.trim_end().ends_with("</svg>"));
    // The printed JSON is itself a log.
    model.write("curve.json", run.stdout.as_bytes());
    let (record, again) = (format!("{}/curve.json", model.path()), format!("{}/again.svg", model.path()));
    let read = wgpt(&["curve", &record, "--plot", &again, "--json"]).json();
    assert_eq!((&read["points"], &read["diagnosis"]), (&report["points"], &report["diagnosis"]));
    assert_eq!(fs::read_to_string(&again).unwrap(), picture);
}

#[test]
fn single_checkpoints_need_a_step() {
    let (model, [train, ..]) = run();
    let path = |name: &str| format!("{}/{name}", model.path());
    let last = format!("7={}", path("model.safetensors"));
    let args = ["curve", &path("checkpoint-20.safetensors"), &last, "--train", &train, "--limit", "9"];
    let run = wgpt(&args).ok();
    let rows: Vec<_> = run.stdout.lines().filter(|line| line.starts_with("|  ")).collect();
    assert!(rows[1].starts_with("|       7 |") && rows[2].starts_with("|      20 |"), "{run:#?}");
    assert!(run.stdout.contains("tokens scored  8 training, 0 validation"), "{run:#?}");
    wgpt(&["curve", &path("model.safetensors"), "--train", &train]).fails(4, &["does not end in a step"]);
    let twice = ["curve", model.path(), &format!("20={}", path("model.safetensors")), "--train", &train];
    wgpt(&twice).fails(4, &["two checkpoints have step 20, "]);
}

#[test]
fn logs_get_a_verdict() {
    let log = repository("weights/training_log.json");
    let args = ["curve", log.to_str().unwrap(), "--n-parameters", "2271360"];
    let run = wgpt(&args).ok();
    assert!(run.stdout.contains("verdict  still falling: the validation loss fell by 0."), "{run:#?}");
    assert!(
        run.stdout.contains("budget   3.2 tokens per parameter (7.37 M tokens, 2.27 M parameters)"),
        "{run:#?}"
    );
    assert_eq!(run.stderr, "");
    let model = Model::tiny();
    let rows: String = (0..12)
        .map(|i| {
            format!(
                "{},{},{}\n",
                (i + 1) * 100,
                4.0 - 0.2 * f64::from(i),
                4.0 + 0.1 * (f64::from(i) - 5.0).abs()
            )
        })
        .collect();
    model.write("log.csv", format!("step,train,validation\n{rows}").as_bytes());
    let (log, plot) = (format!("{}/log.csv", model.path()), format!("{}/x.svg", model.path()));
    let report =
        wgpt(&["curve", &log, "--x", "tokens", "--tokens-per-step", "512", "--plot", &plot, "--json"]).json();
    assert_eq!(report["diagnosis"]["kind"], "overfitting");
    assert_eq!(report["diagnosis"]["from_step"], 600);
    assert_eq!(report["tokens_per_step"], 512.0);
    assert!(fs::read_to_string(&plot).unwrap().contains("tokens trained on"));
}

#[test]
fn bad_inputs_are_refused() {
    let (model, [train, _, plot]) = run();
    let log = format!("{}/log.csv", model.path());
    model.write("log.csv", b"step,train\n10,2.5\n20,two\n");
    wgpt(&["curve", &log]).fails(4, &[&log, "line 3", "train is \"two\", expected a number"]);
    model.write("log.csv", b"step,train\n10,2.5\n20,2.25\n");
    wgpt(&["curve", &log, "--x", "tokens"])
        .fails(4, &["the number of tokens per step is unknown", "--tokens-per-step"]);
    wgpt(&["curve", &log, "--train", &train]).fails(4, &["a log already has losses"]);
    wgpt(&["curve", model.path()]).fails(4, &["give --train, --validation or both"]);
    wgpt(&["curve", model.path(), &log, "--train", &train]).fails(4, &["--log"]);
    wgpt(&["curve", "no/such/file"]).fails(4, &["no/such/file"]);
    wgpt(&["curve", &log, "--plot", "no/such/place.svg"]).fails(1, &["cannot write no/such/place.svg"]);
    assert_eq!(wgpt(&["curve"]).code, Some(2));
    model.write("empty.txt", b"");
    let empty = format!("{}/empty.txt", model.path());
    wgpt(&["curve", model.path(), "--train", &empty, "--plot", &plot])
        .fails(4, &[&empty, "0 tokens to score, but scoring needs at least 2"]);
    assert!(!std::path::Path::new(&plot).exists(), "a failed run leaves no picture");
}

/// Ctrl-C during the evaluation of a thousand checkpoints, all of them the same file.
#[cfg(unix)]
#[test]
fn an_interrupted_curve_keeps_the_finished_checkpoints() {
    use std::io::Read;

    let (model, [train, _, plot]) = run();
    let at = |step: u32| format!("{}/checkpoint-{step}.safetensors", model.path());
    for step in 21..1000 {
        fs::hard_link(at(3), at(step)).unwrap();
    }
    let args = ["curve", model.path(), "--train", &train, "--plot", &plot];
    let mut child = spawn(&args);
    let mut stderr = child.stderr.take().unwrap();
    // The note about skipped files comes before the first load.
    let mut seen = [0; 20];
    stderr.read_exact(&mut seen).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let mut rest = [String::new(), String::new()];
    stderr.read_to_string(&mut rest[0]).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut rest[1]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    let [stderr, stdout] = rest;
    // On a slow machine there may be no result yet.
    if stdout.is_empty() {
        assert!(stderr.ends_with("error: cancelled\n"), "{stderr}");
        assert!(!std::path::Path::new(&plot).exists());
    } else {
        assert!(stdout.contains("verdict  ") && stdout.contains("|       3 |"), "{stdout}");
        assert!(!stdout.contains("|     999 |") && stderr.contains("interrupted: "), "{stdout}{stderr}");
        assert!(fs::read_to_string(&plot).unwrap().trim_end().ends_with("</svg>"));
    }
}

/// Runs the command that docs/evaluation.md gives for its picture.
#[test]
fn the_recorded_curve_is_drawn_without_its_checkpoints() {
    let record = repository("benches/record/2026-11-24-2core-lavapipe25-demo-curve.json");
    let log = repository("weights/training_log.json");
    let model = Model::tiny();
    let plot = format!("{}/curve.svg", model.path());
    let args = [
        "--log",
        log.to_str().unwrap(),
        "--x",
        "tokens",
        "--title",
        "The demo model",
        "--plot",
        &plot,
        "--json",
    ];
    let report = wgpt(&[&["curve", record.to_str().unwrap()], &args[..]].concat()).json();
    let recorded: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert_eq!(report["points"], recorded["results"]["points"]);
    assert_eq!(report["diagnosis"], recorded["results"]["diagnosis"]);
    assert_eq!(
        (&report["diagnosis"]["kind"], &report["budget"]["tokens"]),
        (&"still_falling".into(), &7_372_800.into())
    );
    // The loss over the held-out text equals that of transformers, which
    // weights/README.md gives.
    let last = report["points"].as_array().unwrap().last().unwrap();
    assert!((last["validation"].as_f64().unwrap() / 2.711_045_1 - 1.0).abs() < 1e-5, "{last}");
    let picture = fs::read_to_string(&plot).unwrap();
    assert!(picture.contains("The demo model") && picture.contains("3.2 tokens per parameter"));
}
