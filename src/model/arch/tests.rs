//! What configs say and what is refused; what models compute is in tests/golden.

use serde_json::{Value, json};

use super::*;
use crate::model::decoder::{Residual, Up};

fn parse(config: &Value) -> Result<Decoder> {
    Decoder::from_json(&ConfigJson::from_bytes("config.json", config.to_string().as_bytes())?)
}

fn refused(config: &Value) -> String {
    let error = parse(config).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
    error.to_string()
}

fn with(mut config: Value, field: &str, value: Value) -> Value {
    config[field] = value;
    config
}

/// A config with Llama's names.
fn llama(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
        "max_position_embeddings": 128,
    })
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let text = refused(&llama("mamba"));
    assert!(
        text.starts_with("config.json: model_type = \"mamba\": expected one of gemma, gemma2,"),
        "{text}"
    );
    names().iter().for_each(|name| assert!(text.contains(name), "{text}"));
}

#[test]
fn a_field_that_is_not_honoured_is_named() {
    let text = refused(&with(llama("llama"), "quantization_config", json!({"bits": 4})));
    assert!(text.contains("quantization_config = {\"bits\":4}"), "{text}");
    assert!(text.contains("does not know this field of a llama"), "{text}");
    assert!(refused(&with(llama("llama"), "logit_scale", json!(0.5))).contains("logit_scale"));
    // In an object that is known.
    let scaling = json!({"type": "yarn", "factor": 2.0, "mscale": 0.7});
    assert!(refused(&with(llama("llama"), "rope_scaling", scaling)).contains("rope_scaling.mscale = 0.7"));
    // What is set to nothing changes nothing, nor do notes of training.
    for (field, value) in
        [("logit_scale", json!(null)), ("moe", json!(false)), ("hidden_dropout", json!(0.5))]
    {
        parse(&with(llama("llama"), field, value)).unwrap();
    }
}

#[test]
fn values_that_no_kernel_computes_are_refused() {
    assert!(refused(&with(llama("llama"), "num_key_value_heads", json!(3))).contains("a divisor of the 4"));
    assert!(refused(&with(llama("llama"), "hidden_act", json!("mish"))).contains("expected one of gelu_new"));
    assert!(refused(&with(llama("llama"), "rope_interleaved", json!(true))).contains("rope_interleaved"));
    assert!(refused(&with(llama("phi"), "qk_layernorm", json!(true))).contains("qk_layernorm"));
    let opt = |field: &str, value: Value| {
        let config = with(llama("opt"), "ffn_dim", json!(96));
        let mut config = with(config, "num_key_value_heads", json!(null));
        config.as_object_mut().unwrap().remove("intermediate_size");
        with(config, field, value)
    };
    parse(&opt("word_embed_proj_dim", json!(64))).unwrap();
    assert!(refused(&opt("word_embed_proj_dim", json!(32))).contains("OPT-350M"));
    assert!(refused(&opt("do_layer_norm_before", json!(false))).contains("OPT-350M"));
}

#[test]
fn windows_stand_where_the_config_says() {
    let windows = |config: &Value| -> Vec<Option<usize>> {
        let decoder = parse(config).unwrap();
        (0..decoder.n_layer).map(|layer| decoder.window(layer)).collect()
    };
    let windowed = |model_type| with(llama(model_type), "sliding_window", json!(16));
    let (some, none) = (Some(16), None);
    assert_eq!(windows(&windowed("mistral")), [some; 6]);
    assert_eq!(windows(&windowed("gemma2")), [some, none, some, none, some, none]);
    assert_eq!(windows(&windowed("gemma3_text")), [some, some, some, some, some, none]);
    assert_eq!(windows(&windowed("qwen2")), [none; 6]);
    let used = with(windowed("qwen2"), "use_sliding_window", json!(true));
    assert_eq!(windows(&with(used, "max_window_layers", json!(4))), [none, none, none, none, some, some]);
    let neo = json!({
        "model_type": "gpt_neo", "vocab_size": 100, "hidden_size": 64, "num_layers": 4, "num_heads": 4,
        "max_position_embeddings": 128, "window_size": 16, "attention_types": [[["global", "local"], 2]],
    });
    assert_eq!(windows(&neo), [none, some, none, some]);
    assert!(refused(&with(neo.clone(), "attention_types", json!([[["global"], 3]]))).contains("4 in all"));
    assert!(refused(&with(neo, "attention_types", json!("local"))).contains("attention_types"));
    let longest = |config: &Value| parse(config).unwrap().longest_window();
    assert_eq!((longest(&windowed("mistral")), longest(&windowed("gemma2"))), (some, none));
}

#[test]
fn blocks_are_what_their_papers_say() {
    let gemma3 = parse(&with(llama("gemma3_text"), "rope_theta", json!(1e6))).unwrap();
    let bases: Vec<f64> = gemma3.attention.ropes.iter().map(|rope| rope.theta).collect();
    assert_eq!(bases, [1e6, 1e4]);
    assert!(gemma3.norms.plus_one && matches!(gemma3.residual, Residual::Sandwich { .. }));
    assert_eq!(gemma3.embedding.scale, 8.0);
    let phi = parse(&with(llama("phi"), "partial_rotary_factor", json!(0.5))).unwrap();
    assert_eq!(phi.attention.ropes[0].n_rot, 8);
    assert!(matches!(phi.residual, Residual::Parallel { mlp: None, .. }));
    assert!(matches!(parse(&llama("phi3")).unwrap().mlp.up, Up::GatedFused(_)));
    let text = |model: &str| format!("{:?}", parse(&llama(model)).unwrap().describe());
    assert!(text("qwen3").contains("heads of q and k normed"), "{}", text("qwen3"));
    assert!(text("llama").contains("4 heads of 16, 2 of k and v (grouped-query)"), "{}", text("llama"));
}
