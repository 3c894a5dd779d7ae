//! `wgpt doctor`: the report, its verdict, its exit code.

use serde_json::Value;

use crate::program::{wgpt, wgpt_with};

const SECTIONS: [&str; 10] = [
    "program",
    "adapter",
    "features",
    "limits",
    "floor",
    "kernels",
    "cache",
    "environment",
    "benchmark",
    "verdict",
];

/// Asserts that the report can be pasted into an issue: each section once, lines shorter
/// than 100 columns, no terminal control characters.
fn assert_pasteable(text: &str) {
    for section in SECTIONS {
        assert_eq!(text.matches(&format!("\n\n{section}\n")).count(), 1, "{section}: {text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() < 100, "{line}");
        assert!(!line.contains(char::is_control) && line.trim_end() == line, "{line:?}");
    }
}

#[test]
fn the_report_has_every_section() {
    let run = wgpt(&["doctor", "--seconds", "0.1"]).ok();
    assert_pasteable(&run.stdout);
    for part in [
        &format!("wgpt                  {}, kernels ", env!("CARGO_PKG_VERSION"))[..],
        "DX12 compiler",
        "max_storage_buffers_per_shader_stage",
        "9 of 9 passed",
        ", 0 demoted, ",
        "in use, default",
        "none: nothing is stored",
        "WGPT_CACHE_DIR        =",
        " tokens/s (demo model, 128 tokens)",
        " GB/s",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert_eq!(run.stderr, "");
}

#[test]
fn the_json_object_has_every_field() {
    let report = wgpt(&["doctor", "--seconds", "0.1", "--json"]).json();
    let software = report["adapter"]["device_type"] == "cpu";
    assert_eq!(report["verdict"], if software { "warnings" } else { "ok" }, "{:#}", report["findings"]);
    let fields = |value: &Value, names: &[&str]| {
        let object = value.as_object().unwrap();
        let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
        let mut names = names.to_vec();
        found.sort_unstable();
        names.sort_unstable();
        assert_eq!(found, names);
    };
    let all = [
        "verdict",
        "findings",
        "time",
        "program",
        "machine",
        "adapter",
        "other_adapters",
        "device",
        "features",
        "limits",
        "floor",
        "model",
        "kernels",
        "cache",
        "environment",
        "benchmark",
    ];
    fields(&report, &all);
    // The fields that --help promises.
    let help = wgpt(&["doctor", "--help"]).ok().stdout;
    assert!(help.contains("Verdict and exit code:"), "{help}");
    for name in all {
        assert!(help.contains(name), "{name}: {help}");
    }
    fields(&report["program"], &["wgpt", "wgpu", "kernels", "demo_model"]);
    fields(&report["machine"], &["os", "arch", "cpu_cores", "system", "kernel", "cpu", "memory_bytes"]);
    fields(&report["device"], &["strategy", "features_floor", "max_binding_bytes"]);
    fields(&report["features"][0], &["name", "purpose", "offered", "requested"]);
    fields(&report["limits"][0], &["name", "offered", "floor", "reaches_floor"]);
    fields(&report["floor"], &["opened", "problem", "kernels"]);
    let kernel = ["op", "variant", "status", "reason", "default", "in_use"];
    fields(&report["kernels"][0], &kernel);
    fields(&report["floor"]["kernels"][0], &kernel);
    fields(
        &report["cache"],
        &["dir", "exists", "writable", "problem", "bytes", "pipelines", "choices", "tuned"],
    );
    fields(&report["environment"][0], &["name", "value"]);
    fields(
        &report["benchmark"],
        &[
            "seconds",
            "clock",
            "copy_bytes_per_second",
            "read_bytes_per_second",
            "dispatch_ns",
            "submit_ns",
            "model",
            "notes",
        ],
    );
    let model = ["name", "n_prompt", "prefill_tokens_per_second", "n_gen", "decode_tokens_per_second"];
    fields(&report["benchmark"]["model"], &model);
    assert!(report["benchmark"]["model"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
    let kernels = report["kernels"].as_array().unwrap();
    let used: Vec<_> = kernels.iter().filter(|kernel| kernel["in_use"] == true).collect();
    assert_eq!(used.len(), 9);
    assert!(used.iter().all(|kernel| kernel["status"] == "passed" && kernel["reason"].is_null()));
}

#[test]
fn the_requested_device_and_sizes_are_used() {
    let shape = "n_layer=1,n_embd=16,n_head=2,n_inner=32,vocab_size=50,n_positions=32";
    let args =
        ["doctor", "--features-floor", "--random", shape, "--kv-dtype", "f32", "--seconds", "0", "--json"];
    let report = wgpt(&args).json();
    assert_eq!(
        (&report["device"]["features_floor"], &report["model"]["n_embd"]),
        (&Value::Bool(true), &16.into())
    );
    assert_eq!((&report["model"]["kv_dtype"], &report["benchmark"]), (&"f32".into(), &Value::Null));
    let kernels = report["kernels"].as_array().unwrap();
    let subgroup = kernels.iter().find(|kernel| kernel["variant"] == "subgroup_128").unwrap();
    assert_eq!(subgroup["status"], "unavailable");
    assert!(subgroup["reason"].as_str().unwrap().contains("subgroup operations"));

    let forced = [&args[..], &["--variant", "gemm=cooperative_16"]].concat();
    wgpt(&forced).fails(4, &["variant gemm=cooperative_16 needs"]);
    wgpt(&["doctor", "-m", "/nonexistent"]).fails(4, &["/nonexistent"]);
}

#[cfg(target_os = "linux")]
fn without_driver(args: &[&str], home: &str) -> crate::program::Run {
    use crate::devices::NO_DRIVER;

    let cache = format!("{home}/place");
    wgpt_with(args, "", &[&NO_DRIVER[..], &[("HOME", home), ("WGPT_CACHE_DIR", &cache)]].concat())
}

#[cfg(target_os = "linux")]
#[test]
fn the_report_is_printed_even_without_an_adapter() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let run = without_driver(&["doctor"], home);
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert_pasteable(&run.stdout);
    for help in ["apt install mesa-vulkan-drivers", "dnf install", "VK_DRIVER_FILES       = /nonexistent"] {
        assert!(run.stdout.contains(help), "{help}: {}", run.stdout);
    }
    assert!(run.stdout.contains("  broken, adapter       no Vulkan, Metal or DX12 adapter was found"));
    assert!(run.stderr.starts_with("error: no Vulkan, Metal or DX12 adapter"), "{}", run.stderr);

    let json = without_driver(&["doctor", "--json"], home);
    assert_eq!(json.code, Some(3), "{json:#?}");
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&report["verdict"], &report["adapter"]), (&"broken".into(), &Value::Null));
    assert_eq!(report["findings"][0]["subject"], "adapter");
    assert!(report["program"]["wgpt"].is_string() && report["kernels"].as_array().unwrap().is_empty());

    // The home directory is private.
    assert_eq!(report["cache"]["dir"], "~/place");
    for text in [&run.stdout, &json.stdout] {
        assert!(text.contains("~/place") && !text.contains(home), "{text}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let environment = [("WGPT_CACHE_DIR", file.to_str().unwrap())];
    let report = wgpt_with(&["doctor", "--seconds", "0", "--json"], "", &environment).json();
    assert_eq!((&report["verdict"], &report["cache"]["writable"]), (&"warnings".into(), &Value::Bool(false)));
    let findings = report["findings"].as_array().unwrap();
    let unwritable = findings.iter().any(|finding| {
        finding["subject"] == "cache" && finding["message"].as_str().unwrap().contains("cannot write")
    });
    assert!(unwritable, "{findings:#?}");

    // A writable cache: its files are named.
    let inner = dir.path().join("inner");
    let environment = [("WGPT_CACHE_DIR", inner.to_str().unwrap())];
    let report = wgpt_with(&["doctor", "--seconds", "0", "--json"], "", &environment).json();
    let cache = &report["cache"];
    assert_eq!((&cache["exists"], &cache["writable"]), (&Value::Bool(false), &Value::Bool(true)));
    assert!(cache["choices"]["path"].as_str().unwrap().contains("tuning-"), "{cache:#}");
    assert_eq!(cache["pipelines"].is_object(), report["adapter"]["backend"] == "vulkan");
}

/// Ctrl-C must also work while a driver compiles. Mesa's driver, which has no kernel in
/// its cache here, crashed when the program ran its clean-up during compilation.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_doctor_at_once() {
    use crate::program::spawn_with;

    // Otherwise, minutes of compilation and benchmark would follow.
    for milliseconds in [500, 1500, 3000, 5000] {
        let child = spawn_with(&["doctor", "--seconds", "600"], &[("MESA_SHADER_CACHE_DISABLE", "1")]);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{stderr}");
        assert_eq!(stderr, "");
    }
}
