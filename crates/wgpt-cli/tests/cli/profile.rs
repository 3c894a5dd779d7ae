//! `wgpt profile`: tables, formats and the trace agree with one another.

use std::fs;

use serde_json::Value;

use crate::models::golden;
use crate::program::wgpt;

/// Runs `wgpt profile` on a small random model of two layers, with a trace.
fn traced(args: &[&str]) -> (Value, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let shape = "n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=64";
    let fixed = ["profile", "--random", shape, "-r", "2", "-o", "json", "--trace", path.to_str().unwrap()];
    let report = wgpt(&[&fixed[..], args].concat()).json();
    (report, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
}

fn sum(values: &[Value], field: &str) -> f64 {
    values.iter().map(|value| value[field].as_f64().unwrap()).sum()
}

/// Checks that the parts sum to the whole, in the report and in the trace; this holds on
/// every device.
fn check(report: &Value, trace: &Value) {
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().all(|event| event["pid"] == 1 && event["name"].is_string()), "{trace:#}");
    let steps = report["steps"].as_array().unwrap();
    for (thread, step) in steps.iter().enumerate() {
        let kernels = step["kernels"].as_array().unwrap();
        assert!(kernels.len() >= 3, "{step:#}");
        let total_us = step["kernels_ns"].as_f64().unwrap() / 1e3;
        assert!(total_us > 0.0 && step["step_ns"].as_f64().unwrap() > 0.0, "{step:#}");
        assert!((sum(kernels, "total_us") / total_us - 1.0).abs() < 1e-6, "{step:#}");
        assert!((sum(kernels, "percent") - 100.0).abs() < 1e-6, "{step:#}");
        assert_eq!(sum(kernels, "calls"), step["n_dispatches"].as_f64().unwrap(), "{step:#}");
        let times: Vec<f64> = kernels.iter().map(|kernel| kernel["total_us"].as_f64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "{step:#}");

        let blocks: Vec<Value> = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["tid"] == thread as u64 + 1)
            .cloned()
            .collect();
        assert_eq!(blocks.len() as u64, step["n_dispatches"].as_u64().unwrap());
        assert!((sum(&blocks, "dur") / total_us - 1.0).abs() < 1e-6);
        let mut end = 0.0;
        for (i, block) in blocks.iter().enumerate() {
            // Accurate to a thousandth of a nanosecond: microseconds are written as
            // decimals.
            assert!((block["ts"].as_f64().unwrap() - end).abs() < 1e-6, "{block:#} begins at {end}");
            end += block["dur"].as_f64().unwrap();
            assert_eq!(block["args"]["dispatch"], i);
            assert_eq!(block["cat"], step["step"]);
            let variant = block["args"]["variant"].as_str().unwrap();
            assert!(variant.starts_with(block["name"].as_str().unwrap()), "{block:#}");
            assert!(kernels.iter().any(|kernel| kernel["variant"] == variant), "{block:#}");
        }
    }
}

#[test]
fn the_trace_adds_up_to_the_report() {
    let (report, trace) = traced(&["-n", "12"]);
    check(&report, &trace);
    let step = |i: usize, field: &str| report["steps"][i][field].clone();
    assert_eq!(
        [step(0, "step"), step(0, "n_tokens"), step(0, "position")],
        [Value::from("prefill"), Value::from(12), Value::from(0)]
    );
    assert_eq!(
        [step(1, "step"), step(1, "n_tokens"), step(1, "position")],
        [Value::from("decode"), Value::from(1), Value::from(12)]
    );
    let devices = wgpt(&["devices", "--json"]).json();
    let used =
        devices.as_array().unwrap().iter().find(|adapter| adapter["name"] == report["device"]).unwrap();
    let clock = if used["timestamps"] == true { "gpu" } else { "wall" };
    assert!(report["kernel_hash"].is_string() && report["model"] == "gpt2-2x48-random", "{report:#}");
    assert_eq!([&report["clock"], &trace["otherData"]["clock"]], [clock, clock]);
}

#[test]
fn the_host_times_dispatches_if_timestamps_are_missing() {
    let (report, trace) = traced(&["-n", "12", "--features-floor"]);
    check(&report, &trace);
    assert_eq!(report["clock"], "wall");
    let tiny = golden("gpt2-tiny");
    let run = wgpt(&["profile", "-m", &tiny, "-n", "3", "-r", "1", "--features-floor"]).ok();
    assert!(run.stderr.contains("has no timestamps: each dispatch was timed by the host"), "{run:#?}");
    assert!(run.stdout.contains("times from the host's clock, one submit per dispatch"), "{run:#?}");
}

#[test]
fn a_chunked_prompt_has_the_dispatches_of_each_chunk() {
    // Counts by kernel, because the head's matrix takes several dispatches if it was slow
    // when the model was loaded. Deterministic, because otherwise the head's norm may be
    // fused with it.
    let counts = |args: &[&str]| {
        let report = traced(&[&["--deterministic"], args].concat()).0;
        let kernels = report["steps"][0]["kernels"].as_array().unwrap();
        ["embedding", "kv_append", "layer_norm"].map(|kernel| {
            let named = kernels.iter().filter(|entry| entry["kernel"].as_str().unwrap().starts_with(kernel));
            named.map(|entry| entry["calls"].as_u64().unwrap()).sum::<u64>()
        })
    };
    // Only the last chunk runs the head and the norm before it.
    assert_eq!(counts(&["-n", "8"]), [1, 2, 2 * 2 + 1]);
    assert_eq!(counts(&["-n", "16", "--prefill-chunk", "8"]), [2, 4, 2 * 4 + 1]);
}

#[test]
fn tables_contain_prefill_and_decode() {
    let table = wgpt(&["profile", "-p", "Once upon a time", "-r", "1"]).ok().stdout;
    assert!(table.contains("prefill: 4 tokens at 0") && table.contains("decode: 1 token at 4"), "{table}");
    assert!(table.contains("| kernel") && table.contains("GB/s"), "{table}");
    let tiny = golden("gpt2-tiny");
    let text = wgpt(&["profile", "-m", &tiny, "-r", "1", "-o", "csv"]).ok().stdout;
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let headers = csv.headers().unwrap().clone();
    assert_eq!(&headers, &["step", "kernel", "workgroups", "calls", "total_us", "percent", "variant"][..]);
    let steps: Vec<String> = csv.records().map(|record| record.unwrap()[0].to_owned()).collect();
    assert!(steps.contains(&"prefill".to_owned()) && steps.contains(&"decode".to_owned()), "{text}");
}

#[test]
fn impossible_profiles_are_refused() {
    let tiny = golden("gpt2-tiny");
    wgpt(&["profile", "-m", &tiny, "-n", "128"])
        .fails(4, &["1 to 127", "one of the 128 positions of the context"]);
    wgpt(&["profile", "-m", &tiny, "-n", "0"]).fails(4, &["a prompt of 0 tokens"]);
    wgpt(&["profile", "-m", &tiny, "-p", "text"]).fails(4, &["tokenizer.json"]);
    wgpt(&["profile", "--random", "demo", "-p", "text"]).fails(4, &["random weights have no tokenizer"]);
    let config = format!("{tiny}/config.json");
    wgpt(&["profile", "-m", &tiny, "--trace", &config]).fails(4, &["this is a file of the model"]);
    wgpt(&["profile", "-m", &tiny, "-n", "2", "-r", "1", "--trace", "no/such/trace.json"])
        .fails(1, &["cannot write no/such/trace.json"]);
}
