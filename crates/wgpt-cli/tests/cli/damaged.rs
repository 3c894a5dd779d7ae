//! Damaged models and inputs: exit code 4, a message that names the fault, nothing on
//! stdout.

use safetensors::Dtype;

use crate::models::{Model, repository};
use crate::program::wgpt;

/// Runs `generate` and `inspect` on the model and asserts the error of both.
#[track_caller]
fn is_refused(model: &Model, parts: &[&str]) {
    wgpt(&["generate", "-m", model.path(), "--tokens", "1,2", "-n", "2"]).fails(4, parts);
    wgpt(&["inspect", "-m", model.path()]).fails(4, parts);
}

/// Like [`is_refused`], for a fault that is found only when the values are read.
#[track_caller]
fn is_refused_when_loaded(model: &Model, flags: &[&str], parts: &[&str]) {
    let args = [&["generate", "-m", model.path(), "--tokens", "1,2", "-n", "2"], flags].concat();
    wgpt(&args).fails(4, parts);
}

#[test]
fn directories_without_a_model_are_refused() {
    wgpt(&["inspect", "-m", "no/such/folder"]).fails(4, &["no/such/folder", "does not exist"]);
    let file = repository("weights/config.json");
    wgpt(&["inspect", "-m", file.to_str().unwrap()]).fails(4, &["config.json", "is a file"]);
    let empty = tempfile::tempdir().unwrap();
    wgpt(&["inspect", "-m", empty.path().to_str().unwrap()]).fails(4, &["config.json"]);
}

#[test]
fn damaged_weights_are_refused() {
    let file = "model.safetensors";
    is_refused(
        &Model::tiny().with_file(file, |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        }),
        &[file, "is truncated: expected"],
    );
    is_refused(&Model::tiny().with_file(file, |_| vec![]), &[file, "expected at least 8 bytes, found 0"]);
    let oversized = |mut bytes: Vec<u8>| {
        bytes[..8].copy_from_slice(&200_000_000_u64.to_le_bytes());
        bytes
    };
    is_refused(&Model::tiny().with_file(file, oversized), &[file, "a header of 200000000 bytes"]);
    let corrupt = |mut bytes: Vec<u8>| {
        bytes[20] = 0xFF;
        bytes
    };
    is_refused(&Model::tiny().with_file(file, corrupt), &[file, "header is damaged"]);
    let other = |_| b"PK\x03\x04 a zip archive that torch has written".to_vec();
    is_refused(&Model::tiny().with_file(file, other), &[file, "PyTorch"]);
}

#[test]
fn wrong_and_unsupported_configs_are_refused() {
    is_refused(
        &Model::tiny().with_config("n_embd", 32),
        &["wte.weight", "wrong shape: expected [1000, 32], found [1000, 64]", "config.json"],
    );
    is_refused(
        &Model::tiny().with_config("n_layer", 3),
        &["h.2.ln_1.weight", "missing: expected shape [64]"],
    );
    is_refused(&Model::tiny().with_config("n_layer", 1), &["h.1.attn.c_attn.bias", "unexpected"]);
    is_refused(&Model::tiny().with_config("vocab_size", 1001), &["expected [1001, 64], found [1000, 64]"]);
    is_refused(&Model::tiny().with_config("n_head", 5), &["n_head = 5", "a divisor of n_embd = 64"]);
    is_refused(&Model::tiny().with_config("n_positions", 0), &["n_positions = 0"]);
    is_refused(
        &Model::tiny().with_config("activation_function", "gelu_9000"),
        &["activation_function = \"gelu_9000\"", "gelu_new", "quick_gelu"],
    );
    is_refused(
        &Model::tiny().with_config("model_type", "mamba"),
        &["model_type = \"mamba\"", "gemma3_text", "gpt2", "llama", "qwen3"],
    );
    is_refused(&Model::tiny().with_config("model_type", "llama"), &["hidden_size = (absent)"]);
    is_refused(
        &Model::tiny().with_config("attention_sinks", 4),
        &["attention_sinks = 4", "does not know this field of a gpt2"],
    );
    is_refused(
        &Model::tiny().with_file("config.json", |_| b"{\"n_embd\": ".to_vec()),
        &["config.json", "line 1"],
    );
}

#[test]
fn missing_and_unexpected_tensors_are_refused() {
    let without = Model::tiny().with_tensors(|tensors| {
        let name = tensors.keys().find(|name| name.ends_with("h.1.mlp.c_fc.bias")).unwrap().clone();
        tensors.remove(&name);
    });
    is_refused(&without, &["h.1.mlp.c_fc.bias: missing: expected shape [256]"]);
    let with = Model::tiny().with_tensors(|tensors| {
        let one = tensors.values().next().unwrap().clone();
        tensors.insert("h.0.attn.rotary".into(), one);
    });
    is_refused(&with, &["h.0.attn.rotary: unexpected (shape ["]);
    // The tensor is present under both names, so it is unclear which one counts.
    let twice = Model::tiny().with_tensors(|tensors| {
        let wte = tensors["transformer.wte.weight"].clone();
        tensors.insert("wte.weight".into(), wte);
    });
    is_refused(&twice, &["transformer.wte.weight: the file also has wte.weight"]);
    // Only masks of existing layers and a tied head of the right shape are ignored.
    for name in ["h.2.attn.bias", "lm_head.weight"] {
        let model = Model::tiny().with_tensors(|tensors| {
            let one = tensors["transformer.ln_f.bias"].clone();
            tensors.insert(name.into(), one);
        });
        is_refused(&model, &[&format!("{name}: unexpected (shape [64])")]);
    }
    // An unreadable element type is reported before loading; a tensor name does not reach
    // the terminal unescaped.
    let integers = Model::tiny().with_tensors(|tensors| {
        tensors.get_mut("transformer.ln_f.bias").unwrap().0 = Dtype::I32;
        let one = tensors["transformer.ln_f.bias"].clone();
        tensors.insert("\u{1b}[31m".into(), one);
    });
    is_refused(&integers, &["transformer.ln_f.bias: dtype I32: expected F32, F16 or BF16"]);
}

#[test]
fn values_beyond_f16_are_refused() {
    let tensor = "transformer.h.1.attn.c_proj.weight";
    let model = Model::tiny().with_value(tensor, 70, 1e6);
    is_refused_when_loaded(&model, &[], &[tensor, "element 70 is 1000000", "65504", "--dtype f32"]);
    wgpt(&["generate", "-m", model.path(), "--tokens", "1,2", "-n", "2", "--dtype", "f32"]).ok();
    let model = Model::tiny().with_value(tensor, 70, f32::NAN);
    is_refused_when_loaded(&model, &["--dtype", "f32"], &[tensor, "element 70 is NaN"]);
}

/// 4 million tokens: the head is split into pieces by its number of rows, not by bytes.
#[test]
fn a_vocabulary_of_millions_works() {
    let model = Model::tiny().with_config("n_embd", 1).with_config("n_head", 1).with_config("n_layer", 1);
    let model = model.with_config("vocab_size", 4_000_000).with_tensors(|tensors| {
        let f16 = |shape: Vec<usize>| {
            let n: usize = shape.iter().product();
            (Dtype::F16, shape, vec![0; 2 * n])
        };
        tensors.clear();
        let mut put = |name: &str, shape: Vec<usize>| tensors.insert(name.into(), f16(shape));
        put("wte.weight", vec![4_000_000, 1]);
        put("wpe.weight", vec![128, 1]);
        for (name, n) in [("attn.c_attn", 3), ("attn.c_proj", 1), ("mlp.c_fc", 4)] {
            put(&format!("h.0.{name}.weight"), vec![1, n]);
            put(&format!("h.0.{name}.bias"), vec![n]);
        }
        put("h.0.mlp.c_proj.weight", vec![4, 1]);
        put("h.0.mlp.c_proj.bias", vec![1]);
        for name in ["h.0.ln_1", "h.0.ln_2", "ln_f"] {
            put(&format!("{name}.weight"), vec![1]);
            put(&format!("{name}.bias"), vec![1]);
        }
    });
    // All logits are 0, so the lowest id wins.
    let run = wgpt(&[
        "generate",
        "-m",
        model.path(),
        "--tokens",
        "3999999",
        "--temp",
        "0",
        "-n",
        "1",
        "--ignore-eos",
    ]);
    assert_eq!(run.ok().stdout.trim(), "0");
}

#[test]
fn unsuitable_tokenizers_are_refused() {
    // The demo's tokenizer has 2048 tokens, the tiny model 1000.
    let tokenizer = std::fs::read(repository("weights/tokenizer.json")).unwrap();
    let model = Model::tiny().with_file("tokenizer.json", |_| tokenizer);
    for prompt in [["-p", "Once"], ["--tokens", "1,2"]] {
        wgpt(&["generate", "-m", model.path(), prompt[0], prompt[1]])
            .fails(4, &["tokenizer.json", "2047", "1000"]);
    }
    let model = Model::tiny().with_file("tokenizer.json", |_| b"{}".to_vec());
    wgpt(&["generate", "-m", model.path(), "-p", "Once"])
        .fails(4, &["tokenizer.json", "expected a tokenizer.json"]);
    #[cfg(unix)]
    {
        let model = Model::tiny();
        let link = std::path::Path::new(model.path()).join("tokenizer.json");
        std::os::unix::fs::symlink("/dev/zero", link).unwrap();
        wgpt(&["generate", "-m", model.path(), "--tokens", "1"])
            .fails(4, &["tokenizer.json", "expected a file"]);
    }
    let model = Model::tiny();
    wgpt(&["generate", "-m", model.path(), "-p", "Once"]).fails(4, &["cannot open", "tokenizer.json"]);
    wgpt(&["perplexity", "-m", model.path(), "-"]).fails(4, &["cannot open", "tokenizer.json"]);
    wgpt(&["generate", "-m", model.path(), "--tokens", "1", "--stop", "x"]).fails(4, &["tokenizer.json"]);
}

#[test]
fn damaged_generation_configs_are_refused() {
    let model = Model::tiny().with_file("generation_config.json", |_| b"{\"top_k\": \"many\"}".to_vec());
    is_refused(&model, &["generation_config.json", "top_k = \"many\""]);
    let model = Model::tiny().with_file("generation_config.json", |_| b"{\"temperature\": -1}".to_vec());
    is_refused_when_loaded(&model, &[], &["temperature = -1: expected a finite number, at least 0"]);
}
