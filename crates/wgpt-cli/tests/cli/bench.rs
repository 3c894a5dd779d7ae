//! `wgpt bench model`: tests, formats, and figures that agree with one another.

use serde_json::Value;

use crate::models::{golden, repository};
use crate::program::wgpt;

fn bench(args: &[&str]) -> String {
    let tiny = golden("gpt2-tiny");
    wgpt(&[&["bench", "model", "-m", &tiny, "-r", "3"], args].concat()).ok().stdout
}

#[test]
fn json_contains_the_samples() {
    let rows: Value =
        serde_json::from_str(&bench(&["-p", "16,4", "-n", "3", "-d", "0,8", "-o", "json"])).unwrap();
    let rows = rows.as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp16", "pp4", "tg3", "pp16 @ d8", "pp4 @ d8", "tg3 @ d8"]);
    for row in rows {
        let numbers = |field: &str| -> Vec<f64> {
            row[field].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let (ns, ts) = (numbers("samples_ns"), numbers("samples_ts"));
        assert_eq!((ns.len(), ts.len()), (3, 3));
        let tokens = row["n_prompt"].as_f64().unwrap() + row["n_gen"].as_f64().unwrap();
        for (ns, ts) in ns.iter().zip(&ts) {
            assert!((tokens * 1e9 / ns / ts - 1.0).abs() < 1e-9, "{row:#}");
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / 3.0;
        assert!((row["avg_ns"].as_f64().unwrap() / mean(&ns) - 1.0).abs() < 1e-9, "{row:#}");
        assert!((row["avg_ts"].as_f64().unwrap() / mean(&ts) - 1.0).abs() < 1e-9, "{row:#}");
        assert!(row["stddev_ns"].is_number() && row["stddev_ts"].is_number());
        assert_eq!([&row["dtype"], &row["kv_dtype"], &row["model"]], ["f16", "f16", "gpt2-tiny"]);
        assert_eq!(row["model_n_params"], 172_288);
        for field in ["backend", "device", "driver", "driver_info", "device_type", "strategy", "kernel_hash"]
        {
            assert!(row[field].is_string(), "{field}: {row:#}");
        }
        let time = row["test_time"].as_str().unwrap();
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert_eq!(row["wgpt_version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn costs_agree_with_the_rate() {
    let text = bench(&["-p", "16", "-n", "3", "-d", "0,8", "-o", "json"]);
    let rows: Value = serde_json::from_str(&text).unwrap();
    for row in rows.as_array().unwrap() {
        let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field}: {row:#}"));
        let samples = |field: &str| -> Vec<f64> {
            row[field].as_array().unwrap().iter().map(|ns| ns.as_f64().unwrap()).collect()
        };
        let n_tokens = number("n_prompt") + number("n_gen");
        let parts = ["encode", "submit", "wait", "read"].map(|part| number(&format!("{part}_ns_per_token")));
        assert!(parts.iter().all(|&ns| ns > 0.0), "{row:#}");
        // The parts do not exceed the time of the timed runs.
        assert!(parts.iter().sum::<f64>() <= number("avg_ns") / n_tokens, "{row:#}");
        // Every run takes the same number of dispatches, at least two per layer.
        let dispatches = number("dispatches_per_token") * n_tokens;
        assert!((dispatches - dispatches.round()).abs() < 1e-6 && dispatches >= 4.0, "{row:#}");
        if number("n_prompt") == 0.0 {
            assert!(row["first_token_cold_ns"].is_null() && row["first_token_warm_ns"].is_null(), "{row:#}");
            assert!(samples("first_token_warm_samples_ns").is_empty());
        } else {
            assert!(number("first_token_cold_ns") > number("load_ns"), "{row:#}");
            let warm = samples("first_token_warm_samples_ns");
            assert!((number("first_token_warm_ns") / (warm.iter().sum::<f64>() / 3.0) - 1.0).abs() < 1e-9);
            // Sampling follows the prompt's logits.
            assert!(warm.iter().zip(samples("samples_ns")).all(|(first, prompt)| *first > prompt), "{row:#}");
        }
        assert!(number("peak_gpu_bytes") > number("model_size"), "{row:#}");
        if cfg!(target_os = "linux") {
            assert!(number("peak_host_bytes") > 1e6, "{row:#}");
        }
    }
}

#[test]
fn batch_rows_count_the_tokens_of_all_sequences() {
    let args = ["-p", "4", "-n", "3", "-d", "0,20", "--batch", "1,2,17", "-o", "json"];
    let rows: Value = serde_json::from_str(&bench(&args)).unwrap();
    let rows = rows.as_array().unwrap();
    let tests: Vec<_> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    let at_0 = ["pp4", "tg3", "tg3 b2", "tg3 b17"];
    assert_eq!(tests, [at_0, ["pp4 @ d20", "tg3 @ d20", "tg3 b2 @ d20", "tg3 b17 @ d20"]].concat());
    for (i, row) in rows.iter().enumerate() {
        let n_sequences = [1, 1, 2, 17][i % 4];
        assert_eq!(row["n_sequences"], n_sequences, "{row:#}");
        let tokens =
            (row["n_prompt"].as_f64().unwrap() + row["n_gen"].as_f64().unwrap()) * n_sequences as f64;
        let ns = row["samples_ns"][0].as_f64().unwrap();
        assert!((tokens * 1e9 / ns / row["samples_ts"][0].as_f64().unwrap() - 1.0).abs() < 1e-9, "{row:#}");
    }
    // A step of several sequences takes fewer dispatches than that many steps of one.
    let dispatches = |i: usize| rows[i]["dispatches_per_token"].as_f64().unwrap();
    assert!(dispatches(2) < dispatches(1) && dispatches(3) < dispatches(2), "{rows:#?}");
    let tiny = golden("gpt2-tiny");
    wgpt(&["bench", "model", "-m", &tiny, "--batch", "0"]).fails(2, &["--batch"]);
}

#[test]
fn random_weights_are_measured_without_a_file() {
    let shape = "n_layer=1,n_embd=48,n_head=3,vocab_size=301,n_positions=64";
    let args = ["bench", "model", "--random", shape, "-p", "8,32", "-n", "2", "-d", "0,32", "-r", "1"];
    let rows = wgpt(&[&args[..], &["-o", "json"]].concat()).json();
    let tests: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["pp8", "pp32", "tg2", "pp8 @ d32", "pp32 @ d32", "tg2 @ d32"]);
    assert_eq!(rows[0]["model"], "gpt2-1x48-random");
}

#[test]
fn all_formats_contain_the_same_tests() {
    let args = ["-p", "4", "-n", "2", "-d", "3", "-o"];
    let lines = bench(&[&args[..], &["jsonl"]].concat());
    let tests: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["test"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tests, ["pp4 @ d3", "tg2 @ d3"]);

    let text = bench(&[&args[..], &["csv"]].concat());
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let headers = csv.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let records: Vec<_> = csv.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!([&records[0][column("test")], &records[1][column("test")]], ["pp4 @ d3", "tg2 @ d3"]);
    assert!(records[0][column("avg_ts")].parse::<f64>().unwrap() > 0.0);
    // Every field with a single value is a column.
    let object: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let single: std::collections::BTreeSet<&str> = object
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_array())
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(headers.iter().collect::<std::collections::BTreeSet<_>>(), single);

    let table = bench(&["-p", "4", "-n", "2"]);
    let lines: Vec<_> = table.lines().collect();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(cells(lines[0]), ["model", "size", "params", "backend", "device", "test", "t/s"]);
    assert_eq!(cells(lines[2])[0], "gpt2-tiny f16");
    assert_eq!([&cells(lines[2])[5], &cells(lines[3])[5]], ["pp4", "tg2"]);
    assert!(cells(lines[2])[6].contains(" ± "));
    let width = lines[0].chars().count();
    assert!(lines[..4].iter().all(|line| line.chars().count() == width), "{table}");
    // An empty line separates the second table.
    assert_eq!(lines[4], "");
    assert_eq!(cells(lines[5])[..3], ["test", "1st token, cold", "1st token, warm"]);
    assert_eq!([&cells(lines[7])[0], &cells(lines[8])[0]], ["pp4", "tg2"]);
    assert_eq!(cells(lines[8])[1..3], ["-", "-"]);
    let width = lines[5].chars().count();
    assert!(lines[5..9].iter().all(|line| line.chars().count() == width), "{table}");
}

#[test]
fn tests_beyond_the_context_are_refused() {
    let tiny = golden("gpt2-tiny");
    wgpt(&["bench", "model", "-m", &tiny, "-p", "129"])
        .fails(4, &["test pp129 takes 129 positions, but the context holds 128"]);
    wgpt(&["bench", "model", "-m", &tiny, "-n", "100", "-d", "29"])
        .fails(4, &["test tg100 @ d29 takes 129 positions"]);
    // A size that fits at another depth of the list is skipped with a note.
    let args = ["bench", "model", "-m", &tiny, "-r", "1", "-p", "100", "-n", "4", "-d", "0,30", "-o", "json"];
    let run = wgpt(&args).ok();
    assert!(
        run.stderr.contains("left out, because the context holds only 128 positions: pp100 @ d30"),
        "{run:#?}"
    );
    assert_eq!(run.json().as_array().unwrap().len(), 3);
    wgpt(&["bench", "model", "-m", &tiny, "-p", "0", "-n", "0"]).fails(4, &["nothing to measure"]);
}

#[test]
fn the_reported_wgpu_version_is_the_one_in_use() {
    let lock = std::fs::read_to_string(repository("Cargo.lock")).unwrap().replace("\r\n", "\n");
    let (_, tail) = lock.split_once("name = \"wgpu\"\nversion = \"").unwrap();
    assert_eq!(tail.split_once('"').unwrap().0, wgpt::internals::gpu::WGPU_VERSION);
}
