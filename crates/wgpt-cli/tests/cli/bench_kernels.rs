//! `wgpt bench kernels`, `compare` and `plot`: formats, figures that agree with one
//! another, pictures.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::models::golden;
use crate::program::{Run, wgpt};

/// Flags for little work: about a second, most of it for the roofline.
const QUICK: [&str; 8] = ["bench", "kernels", "--max-seconds", "0.02", "--cold-mib", "1", "--probe-mib", "1"];

fn kernels(args: &[&str]) -> Run {
    wgpt(&[&QUICK[..], args].concat()).ok()
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field}: {value:#}"))
}

/// Asserts the properties of every kernel record.
fn check_record(record: &Value) {
    for field in ["kernel_hash", "device", "driver", "driver_info", "wgpu_version", "test_time"] {
        assert!(record[field].is_string(), "{field}: {record:#}");
    }
    assert_eq!(record["kernel_hash"], wgpt::internals::kernels::SOURCE_HASH);
    assert!(number(record, "max_storage_buffers") >= 8.0 && number(record, "cpu_cores") >= 1.0);
    let roofline = &record["roofline"];
    let (bandwidth, peak) = (number(roofline, "bytes_per_second"), number(roofline, "flops_per_second"));
    assert!(bandwidth > 0.0 && peak > 0.0);
    let counts: Vec<_> =
        roofline["latency"].as_array().unwrap().iter().map(|row| &row["n_dispatches"]).collect();
    assert_eq!(counts, [1, 64, 200, 1, 64, 200]);
    for row in record["kernels"].as_array().unwrap() {
        let mut samples: Vec<f64> =
            row["samples_ns"].as_array().unwrap().iter().map(|ns| ns.as_f64().unwrap()).collect();
        assert!(samples.len() >= 3 && samples.len() == row["n_samples"].as_u64().unwrap() as usize);
        samples.sort_by(f64::total_cmp);
        let middle = |i: usize| (samples[i] + samples[samples.len() - 1 - i]) / 2.0;
        assert_eq!(number(row, "median_ns"), middle((samples.len() - 1) / 2), "{row:#}");
        assert!(number(row, "p10_ns") <= number(row, "median_ns"));
        assert!(number(row, "median_ns") <= number(row, "p90_ns"));
        if row["gb_per_second"].is_null() {
            // Only a wall time may be smaller than its overhead.
            assert_eq!(row["clock"], "wall", "{row:#}");
            continue;
        }
        let net = number(row, "median_ns") - number(row, "overhead_ns");
        assert!((number(row, "gb_per_second") * net / number(row, "bytes") - 1.0).abs() < 1e-9, "{row:#}");
        let least = (number(row, "bytes") / bandwidth).max(number(row, "flops") / peak) * 1e9;
        assert!((number(row, "roofline_percent") * net / least / 100.0 - 1.0).abs() < 1e-9, "{row:#}");
    }
}

fn names(record: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = record["kernels"].as_array().unwrap();
    rows.iter().map(|row| format!("{} {}", text(&row["case"]), text(&row["cache"]))).collect()
}

#[test]
fn json_contains_samples_roofline_and_circumstances() {
    // A part of a name: on the floor, one variant of each operation contains it.
    let args = ["--op", "gemv,gemm", "--shape", "24x40", "--variant", "per_thread", "-o", "json"];
    let record = kernels(&[&args[..], &["--features-floor"]].concat()).json();
    check_record(&record);
    let want = [
        "gemv m=1 n=24 k=40 f16 warm",
        "gemv m=1 n=24 k=40 f16 cold",
        "gemm m=128 n=24 k=40 f16 warm",
        "gemm m=128 n=24 k=40 f16 cold",
    ];
    assert_eq!(names(&record), want);
    assert_eq!((&record["complete"], &record["cold_bytes"]), (&true.into(), &(1 << 20).into()));
    assert!(
        record["kernels"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["variant"].as_str().unwrap().starts_with("per_thread"))
    );

    // The floor has no timestamps.
    let args = ["--op", "argmax", "--shape", "40", "--cache", "warm", "--features-floor", "-o", "json"];
    let record = kernels(&args).json();
    check_record(&record);
    assert_eq!(record["roofline"]["clock"], "wall");
    assert!(number(&record["kernels"][0], "overhead_ns") > 0.0);
    assert_eq!(
        (&record["features_floor"], &record["max_workgroup_invocations"]),
        (&true.into(), &256.into())
    );
}

#[test]
fn every_variant_of_every_operation_is_measured() {
    // One row per variant, so none is wrong on this adapter.
    for (op, shape, least) in [
        ("gemv", "16x16", 2),
        ("gemv", "3x16x16", 2),
        ("norm_gemv", "16x16", 2),
        ("rms_gemv", "16x16", 2),
        ("rms_gemv", "3x16x16", 2),
        ("gemm", "9x16x16", 2),
        ("gated", "3x24", 1),
        ("layer_norm", "3x24", 2),
        ("rms_norm", "3x24", 2),
        ("qk_norm", "3x2x8", 1),
        ("embedding", "2x8", 1),
        ("argmax", "50", 1),
        ("sample", "50", 1),
        ("kv_append", "3x2x8", 1),
        ("attention_prefill", "5x2x8", 2),
        ("attention_decode", "20x2x8", 2),
        ("attention_reduce", "600x2x8", 1),
    ] {
        let text = kernels(&["--op", op, "--shape", shape, "--cache", "warm", "-o", "csv"]).stdout;
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let headers = csv.headers().unwrap().clone();
        let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
        let rows: Vec<_> = csv.records().map(Result::unwrap).collect();
        assert!(rows.len() >= least, "{op}: {text}");
        for row in rows {
            assert_eq!(&row[column("op")], op);
            assert!(row[column("median_ns")].parse::<f64>().unwrap() > 0.0);
            assert_eq!(&row[column("kernel_hash")], wgpt::internals::kernels::SOURCE_HASH);
        }
    }
}

#[test]
fn the_table_is_aligned_and_the_picture_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("roof.svg");
    let path = picture.to_str().unwrap();
    let args = ["--op", "gemv", "--shape", "8x8,16x8", "--variant", "workgroup_64", "--plot", path];
    let text = kernels(&args).stdout;
    let (_, table) = text.split_once("| model ").unwrap();
    let lines: Vec<_> = table.lines().take(6).collect();
    assert!(lines[2..].iter().all(|line| line.chars().count() == lines[1].chars().count()), "{text}");
    assert!(text.contains("| dispatches per pass |") && text.contains("GFLOP/s"), "{text}");
    let svg = fs::read_to_string(&picture).unwrap();
    for part in ["<svg", "gemv m=1 n=16 k=8 f16", "FLOP per byte", "</svg>"] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no partial file remains");
}

#[test]
fn the_total_time_can_be_limited() {
    let run = kernels(&["--op", "argmax", "--shape", "8,9", "--total-seconds", "0", "-o", "json"]);
    assert!(run.stderr.contains("2 variants were not measured"), "{run:#?}");
    let record = run.json();
    assert_eq!(record["complete"], false);
    assert!(record["kernels"].as_array().unwrap().is_empty());
}

#[test]
fn wrong_requests_are_refused_before_the_measurement() {
    let refused = |args: &[&str], part: &str| {
        wgpt(&[&QUICK[..], args].concat()).fails(4, &[part]);
    };
    refused(&["--op", "gemv", "--shape", "1x2x3x4"], "shape 1x2x3x4: gemv takes NxK");
    refused(&["--op", "gemv", "--shape", "0x8"], "sizes must be above 0");
    let onto_a_folder = [&QUICK[..], &["--op", "argmax", "--shape", "8", "--plot", "."]].concat();
    wgpt(&onto_a_folder).fails(1, &["it is not a file"]);
    assert_eq!(wgpt(&["bench", "kernels", "--shape", "8x8"]).code, Some(2));
}

/// Writes a record of the tiny model.
fn model_record(path: &Path, args: &[&str]) -> String {
    let tiny = golden("gpt2-tiny");
    let run = wgpt(&[&["bench", "model", "-m", &tiny, "-r", "4", "-o", "json"], args].concat()).ok();
    fs::write(path, &run.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn records_are_compared_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let a = model_record(&file("a.json"), &["-p", "16", "-n", "4", "-d", "0,32"]);
    let b = model_record(&file("b.json"), &["-p", "16", "-n", "0", "-d", "0"]);

    let found = wgpt(&["bench", "compare", &a, &b, "-o", "json"]).json();
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    let row = &found["rows"][0];
    assert_eq!((&row["name"], &row["n_a"]), (&"gpt2-tiny f16 pp16".into(), &4.into()));
    assert!(number(row, "low_percent") <= number(row, "change_percent"));
    assert!(number(row, "change_percent") <= number(row, "high_percent"));
    assert_eq!(found["only_in_a"].as_array().unwrap().len(), 3);
    assert_eq!(found["warnings"], Value::Array(Vec::new()));

    // A record compared with itself: no difference in any row.
    let table = wgpt(&["bench", "compare", &a, &a]).ok().stdout;
    assert_eq!(table.matches("| no difference ").count(), 4, "{table}");
    let csv = wgpt(&["bench", "compare", &a, &b, "-o", "csv"]).ok().stdout;
    assert_eq!(csv.lines().count(), 5, "{csv}");

    let out = file("rates.svg");
    wgpt(&["bench", "plot", &a, &b, out.to_str().unwrap()]).ok();
    let svg = fs::read_to_string(&out).unwrap();
    for part in ["Decode, tokens per second", "Prefill, tokens per second", "gpt2-tiny f16 tg4", "</svg>"] {
        assert!(svg.contains(part), "{part}");
    }

    fs::write(file("other.json"), "{\"a\": 1}").unwrap();
    let other = file("other.json");
    let other = other.to_str().unwrap();
    wgpt(&["bench", "compare", &a, other])
        .fails(4, &["other.json: the file has no rows of `wgpt bench model`"]);
    wgpt(&["bench", "compare", "no/such.json", &a]).fails(4, &["cannot read no/such.json"]);
    let kept = file("kept.svg");
    fs::write(&kept, "old").unwrap();
    wgpt(&["bench", "plot", other, kept.to_str().unwrap()]).fails(4, &["the file has no rows"]);
    assert_eq!(fs::read(&kept).unwrap(), b"old");
}
