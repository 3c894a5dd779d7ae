//! Checkpoints that do not fit: every message names the tensor, what was expected and
//! what was found.

use std::path::Path;

use wgpt::{DType, Error, ModelOptions};

use crate::support::files::{self, altered_tiny, patch};

/// Returns the tensor and the message of the refusal.
fn refusal(dir: &Path, dtype: DType) -> (String, String) {
    let options = ModelOptions { dtype, ..ModelOptions::default() };
    match files::engine(dir).options(options).build() {
        Err(Error::Tensor { tensor, message }) => (tensor, message),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("was loaded"),
    }
}

fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn the_error_of_a_value_beyond_f16_names_the_remedy() {
    // Vectors always stay f32; matrices do not, including transposed ones. The indices
    // are in a first and in a later read block.
    let cases = [
        ("wte.weight", 7_000_003, 65520.0),
        ("h.0.mlp.c_fc.weight", 3, -70000.0),
        ("h.0.mlp.c_fc.weight", 639 * 2560 + 2000, 1e30),
        ("h.0.attn.c_attn.weight", 1920 * 640 - 1, f32::MAX),
    ];
    for (tensor, index, value) in cases {
        let dir = files::write(&files::long_matrices());
        patch(dir.path(), tensor, index, value);
        let (found, message) = refusal(dir.path(), DType::F16);
        assert_eq!(found, tensor);
        assert_contains(
            &message,
            &[&format!("element {index} is {value}"), "65504", "ModelOptions::dtype = f32"],
        );
    }
}

#[test]
fn a_value_beyond_f16_can_be_loaded_as_f32() {
    let dir = altered_tiny(|_| ());
    patch(dir.path(), "transformer.h.1.attn.c_proj.weight", 100, 70000.0);
    refusal(dir.path(), DType::F16);
    let options = ModelOptions { dtype: DType::F32, ..ModelOptions::default() };
    let engine = files::engine(dir.path()).options(options).build().unwrap();
    let mut session = engine.session();
    assert!(session.advance(&[1, 2]).unwrap().iter().all(|logit| logit.is_finite()));
    // The largest f16, and values that round to it, pass.
    let dir = altered_tiny(|_| ());
    patch(dir.path(), "transformer.h.1.attn.c_proj.weight", 100, 65519.0);
    files::engine(dir.path()).build().unwrap();
}

#[test]
fn nan_and_infinity_are_refused_in_either_dtype() {
    for (tensor, value) in [
        ("transformer.wpe.weight", f32::NAN),
        ("transformer.h.0.mlp.c_proj.weight", f32::NEG_INFINITY),
        ("transformer.h.1.ln_2.bias", f32::INFINITY),
    ] {
        let dir = altered_tiny(|_| ());
        patch(dir.path(), tensor, 5, value);
        for dtype in [DType::F16, DType::F32] {
            let (found, message) = refusal(dir.path(), dtype);
            assert_eq!(found, tensor);
            assert_contains(&message, &[&format!("element 5 is {value}")]);
            assert!(!message.contains("ModelOptions::dtype"), "f32 would not help: {message}");
        }
    }
}

#[test]
fn missing_unexpected_and_wrongly_shaped_tensors_are_listed() {
    let dir = altered_tiny(|tensors| {
        tensors.retain(|(name, ..)| name != "transformer.h.0.ln_1.bias");
        let c_fc = tensors.iter_mut().find(|(name, ..)| name == "transformer.h.1.mlp.c_fc.weight").unwrap();
        c_fc.1 = vec![256, 64];
        tensors.push(("transformer.h.2.ln_1.bias".into(), vec![64], vec![0; 256]));
    });
    let (tensor, message) = refusal(dir.path(), DType::F16);
    assert_eq!(tensor, "h.0.ln_1.bias");
    assert_contains(
        &message,
        &[
            "missing: expected shape [64]",
            "transformer.h.1.mlp.c_fc.weight: wrong shape: expected [64, 256], found [256, 64]",
            "transformer.h.2.ln_1.bias: unexpected (shape [64])",
            "config.json do not belong together",
        ],
    );
}

#[test]
fn a_single_fault_is_named_without_a_list() {
    let missing = altered_tiny(|tensors| tensors.retain(|(name, ..)| name != "transformer.wte.weight"));
    let (tensor, message) = refusal(missing.path(), DType::F16);
    assert_eq!(tensor, "wte.weight");
    assert!(message.starts_with("missing: expected shape [1000, 64]\n"), "{message}");
    let unexpected = altered_tiny(|tensors| tensors.push(("score.weight".into(), vec![1], vec![0; 4])));
    let (tensor, message) = refusal(unexpected.path(), DType::F16);
    assert_eq!(tensor, "score.weight");
    assert!(message.starts_with("unexpected (shape [1])\n"), "{message}");
}

/// A config of another depth causes a family of faults: a dozen are enough.
#[test]
fn a_long_list_of_faults_is_shortened() {
    let dir = altered_tiny(|tensors| tensors.retain(|(name, ..)| !name.starts_with("transformer.h.")));
    let (_, message) = refusal(dir.path(), DType::F16);
    // 24 tensors of two blocks: the first one, twelve more lines, and a count of the
    // rest.
    assert_eq!(message.matches("missing").count(), 13, "{message}");
    assert_contains(&message, &["and 11 more"]);
}
