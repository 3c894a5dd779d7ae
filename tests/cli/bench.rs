//! `wgpt bench model`: tests, formats, figures that agree with one another.

use serde_json::Value;

use crate::models::{golden, repository};
use crate::program::wgpt;

fn bench(args: &[&str]) -> String {
    let tiny = golden("gpt2-tiny");
    wgpt(&[&["bench", "model", "-m", &tiny, "-r", "3"], args].concat()).ok().stdout
}

#[test]
fn json_carries_the_samples() {
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
        for field in ["backend", "device", "driver", "driver_info", "device_type", "strategy"] {
            assert!(row[field].is_string(), "{field}: {row:#}");
        }
        let time = row["test_time"].as_str().unwrap();
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert_eq!(row["wgpt_version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn the_other_formats_hold_the_same_tests() {
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
}

#[test]
fn tests_beyond_the_context_are_refused() {
    let tiny = golden("gpt2-tiny");
    wgpt(&["bench", "model", "-m", &tiny, "-p", "129"])
        .fails(4, &["test pp129 takes 129 positions, the context holds 128"]);
    wgpt(&["bench", "model", "-m", &tiny, "-n", "100", "-d", "29"])
        .fails(4, &["test tg100 @ d29 takes 129 positions"]);
    wgpt(&["bench", "model", "-m", &tiny, "-p", "0", "-n", "0"]).fails(4, &["nothing to measure"]);
}

#[test]
fn the_version_of_wgpu_is_the_one_in_use() {
    let lock = std::fs::read_to_string(repository("Cargo.lock")).unwrap().replace("\r\n", "\n");
    let (_, behind) = lock.split_once("name = \"wgpu\"\nversion = \"").unwrap();
    assert_eq!(behind.split_once('"').unwrap().0, wgpt::gpu::WGPU_VERSION);
}
