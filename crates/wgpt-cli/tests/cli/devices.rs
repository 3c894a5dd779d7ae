//! `wgpt devices`, the choice of a device, `wgpt inspect` and its plan.

use serde_json::Value;

use crate::models::golden;
use crate::program::{Run, wgpt, wgpt_with};

/// Environment under which the Vulkan loader finds no driver.
pub const NO_DRIVER: [(&str, &str); 2] =
    [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];

#[test]
fn the_list_shows_the_properties_of_each_adapter() {
    let list = wgpt(&["devices", "--json"]).json();
    let text = wgpt(&["devices"]).ok().stdout;
    for (index, adapter) in list.as_array().unwrap().iter().enumerate() {
        assert_eq!(adapter["index"], index);
        let name = adapter["name"].as_str().unwrap();
        assert!(text.contains(&format!("{index}: {name}\n")), "{text}");
        for field in ["backend", "driver", "driver_info", "device_type"] {
            assert!(adapter[field].is_string(), "{field}: {adapter:#}");
        }
        for field in ["shader_f16", "subgroups", "timestamps"] {
            assert!(adapter[field].is_boolean(), "{field}: {adapter:#}");
        }
        for field in ["max_storage_binding_bytes", "max_buffer_bytes", "max_workgroup_invocations"] {
            assert!(adapter[field].as_u64().unwrap() > 0, "{field}: {adapter:#}");
        }
        assert!(adapter["cooperative_matrices"].is_array());
        assert_eq!(adapter["shader_compiler"].is_string(), adapter["backend"] == "dx12");
    }
}

#[test]
fn a_device_is_chosen_by_index_or_name_and_must_exist() {
    let list = wgpt(&["devices", "--json"]).json();
    let name = list[0]["name"].as_str().unwrap().to_uppercase();
    let chosen = |args: &[&str], environment: &[(&str, &str)]| {
        let few = ["generate", "-p", "Once", "-n", "1", "--output-format", "json"];
        wgpt_with(&[&few[..], args].concat(), "", environment)
    };
    for device in ["0", &name] {
        assert_eq!(chosen(&["--device", device], &[]).json()["device"]["name"], list[0]["name"]);
        assert_eq!(chosen(&[], &[("WGPT_DEVICE", device)]).json()["device"]["name"], list[0]["name"]);
    }
    let known = list[0]["name"].as_str().unwrap();
    // A number beyond the list may be a part of a name, as in "RTX 4090".
    if let Some(number) = known.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() > 1) {
        assert_eq!(chosen(&["--device", number], &[]).json()["device"]["name"], list[0]["name"]);
    }
    chosen(&["--device", "voodoo2"], &[]).fails(3, &["device \"voodoo2\" matches no adapter", known]);
    chosen(&["--device", "99"], &[]).fails(3, &["device \"99\" matches no adapter"]);
    chosen(&[], &[("WGPT_DEVICE", "voodoo2")]).fails(3, &["voodoo2"]);
    // The flag overrides the environment.
    chosen(&["--device", "0"], &[("WGPT_DEVICE", "voodoo2")]).ok();
    wgpt(&["inspect", "--device", "voodoo2"]).fails(3, &["voodoo2"]);
}

#[test]
fn a_software_adapter_is_noted() {
    let list = wgpt(&["devices", "--json"]).json();
    let run = wgpt(&["generate", "-p", "Once", "-n", "1"]).ok();
    let software = list[0]["device_type"] == "cpu";
    assert_eq!(run.stderr.contains("note: running on a software adapter"), software, "{run:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_error_explains_how_to_get_an_adapter() {
    let help = ["apt install mesa-vulkan-drivers", "dnf install", "pacman -S"];
    let without = |args: &[&str]| -> Run { wgpt_with(args, "", &NO_DRIVER) };
    without(&["generate", "-p", "Once"]).fails(3, &help);
    without(&["bench", "model"]).fails(3, &help);
    without(&["devices"]).fails(3, &help);
    let run = without(&["devices", "--json"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), "[]\n"));
    let run = wgpt(&["devices", "--backend", "metal"]);
    run.fails(3, &["no metal adapter"]);
    // Commands that need no adapter work without one.
    let report = without(&["inspect", "--json"]).json();
    assert_eq!(report["device"]["name"], Value::Null);
    assert_eq!(report["device"]["max_binding_bytes"], 128 << 20);
    assert!(without(&["inspect"]).ok().stdout.contains("no adapter found"));
    without(&["completions", "bash"]).ok();
}

#[test]
fn inspect_describes_the_model() {
    let report = wgpt(&["inspect", "-m", &golden("gpt2-tiny"), "--json"]).json();
    // 172,288 parameters, by the golden model's README.
    assert_eq!([&report["parameters"], &report["config"]["n_positions"]], [172_288, 128]);
    assert_eq!(report["file_dtypes"]["F32"]["bytes"], 172_288 * 4);
    assert_eq!(report["config"]["mlp"]["activation"], "gelu_tanh");
    // 2 layers with k and v of 64 elements each, in f16.
    assert_eq!(report["kv_bytes_per_token"], 2 * 2 * 64 * 2);
    let text = wgpt(&["inspect", "-m", &golden("gpt2-tiny")]).ok().stdout;
    assert!(text.contains("172.29 K (172288)") && text.contains("GPU memory"), "{text}");
}

#[test]
fn inspect_describes_a_block() {
    let gemma = golden("gemma2/softcaps-window9");
    let text = wgpt(&["inspect", "-m", &gemma]).ok().stdout;
    for part in
        ["sandwich: x += norm(attention(norm(x)))", "scores capped at", "window 9 in", "logits capped at"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let report = wgpt(&["inspect", "-m", &gemma, "--json"]).json();
    assert_eq!(report["config"]["architecture"], "gemma2");
    assert_eq!(report["config"]["attention"]["layers"][0]["window"], 9);
    assert!(report["block"]["MLP"].as_str().unwrap().contains("gated, gelu_tanh"), "{report}");
}

#[test]
fn a_run_allocates_the_planned_memory() {
    let tiny = golden("gpt2-tiny");
    let others =
        ["llama/gqa-untied", "mistral/window7", "gemma3_text/layer-types", "phi/gqa-rotary0.5"].map(golden);
    let modes: [&[&str]; 8] = [
        &[],
        &["-m", &tiny],
        &["-m", &tiny, "--dtype", "f32", "--kv-dtype", "f32", "-c", "40"],
        &["--features-floor"],
        &["-m", &others[0], "--features-floor"],
        &["-m", &others[1]],
        &["-m", &others[2]],
        &["-m", &others[3]],
    ];
    for mode in modes {
        let plan = wgpt(&[&["inspect", "--json"], mode].concat()).json()["plan"].clone();
        let run = ["generate", "--tokens", "1,2,3", "-n", "2", "--output-format", "json"];
        let report = wgpt(&[&run[..], mode].concat()).json();
        assert_eq!(plan["total_bytes"], report["gpu_bytes"], "{mode:?}: {plan:#}");
        let sum: u64 =
            plan["groups"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
        assert_eq!(plan["total_bytes"], sum);
        let sum: u64 = plan["entries"].as_array().unwrap().iter().map(|e| e["bytes"].as_u64().unwrap()).sum();
        assert_eq!(plan["total_bytes"], sum);
    }
}
