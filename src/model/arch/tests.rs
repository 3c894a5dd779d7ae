//! Tests how configs are read and which ones are refused. tests/golden checks what models
//! compute.

use serde_json::{Value, json};

use super::*;
use crate::model::decoder::{Attention, Residual, Up};
use crate::model::kv_cache::KvGroup;

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

/// A config with GPT-2's names.
fn gpt2(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 100, "n_embd": 64, "n_layer": 6, "n_head": 4,
        "n_positions": 128,
    })
}

/// A config with OPT's names.
fn opt() -> Value {
    json!({
        "model_type": "opt", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 6,
        "num_attention_heads": 4, "ffn_dim": 96, "max_position_embeddings": 128, "word_embed_proj_dim": 64,
    })
}

#[test]
fn an_unknown_architecture_is_named_with_the_known_ones() {
    let text = refused(&llama("mamba"));
    assert!(
        text.starts_with("config.json: model_type = \"mamba\": expected one of gemma, gemma2,"),
        "{text}"
    );
    names().iter().for_each(|name| assert!(text.contains(name), "{text}"));
}

#[test]
fn an_unknown_field_is_named() {
    let text = refused(&with(llama("llama"), "quantization_config", json!({"bits": 4})));
    assert!(text.contains("quantization_config = {\"bits\":4}"), "{text}");
    assert!(text.contains("does not know this field of a llama"), "{text}");
    assert!(refused(&with(llama("llama"), "logit_scale", json!(0.5))).contains("logit_scale"));
    // An unknown field in a known object.
    let scaling = json!({"type": "yarn", "factor": 2.0, "mscale": 0.7});
    assert!(refused(&with(llama("llama"), "rope_scaling", scaling)).contains("rope_scaling.mscale = 0.7"));
    // Fields set to null or false change nothing, and neither do training settings.
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
    assert!(refused(&with(gpt2("gpt2"), "n_head", json!(5))).contains("a divisor of n_embd = 64"));
    let share = with(llama("phi"), "partial_rotary_factor", json!(0.2));
    assert!(refused(&share).contains("an even number of elements"));
}

#[test]
fn unsupported_parts_of_an_architecture_are_refused() {
    for (config, field, value, why) in [
        (gpt2("gpt2"), "add_cross_attention", json!(true), "decoder-only"),
        (llama("gemma3_text"), "use_bidirectional_attention", json!(true), "causal"),
        (llama("llama"), "rope_interleaved", json!(true), "rotate halves"),
        (llama("phi"), "qk_layernorm", json!(true), "no published Phi"),
        (llama("phi3"), "attention_bias", json!(true), "no published Phi-3"),
        (llama("starcoder2"), "norm_type", json!("rms_norm"), "expected one of layer_norm"),
        (llama("starcoder2"), "mlp_type", json!("gated"), "expected one of default"),
        (opt(), "do_layer_norm_before", json!(false), "OPT-350M"),
        (opt(), "word_embed_proj_dim", json!(32), "OPT-350M"),
        (opt(), "_remove_final_layer_norm", json!(true), "without a final norm"),
        (opt(), "layer_norm_elementwise_affine", json!(false), "without weights"),
    ] {
        parse(&config).unwrap();
        let text = refused(&with(config, field, value));
        assert!(text.contains(field) && text.contains(why), "{text}");
    }
}

/// A config with Llama's names that has only the required sizes.
fn bare(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 100, "hidden_size": 2048, "num_hidden_layers": 30,
        "num_attention_heads": 32, "intermediate_size": 96, "max_position_embeddings": 128,
    })
}

/// As [`bare`], with the fields that have no default in Gemma 2.
fn bare_gemma2() -> Value {
    let config = with(bare("gemma2"), "num_key_value_heads", json!(16));
    with(config, "query_pre_attn_scalar", json!(144))
}

/// Returns the caps of scores and of logits.
fn caps(config: &Value) -> (Option<f32>, Option<f32>) {
    let decoder = parse(config).unwrap();
    (decoder.attention.soft_cap, decoder.head.soft_cap)
}

/// The values are from configuration_*.py of transformers 4.46.3, for Qwen3 and Gemma 3
/// of 4.57.3. In 4.57.3 the other classes have the same values, except Gemma 2's.
#[test]
fn absent_fields_have_the_defaults_of_their_class() {
    // k and v heads and elements per head; window of the first layer; whether the head is
    // tied; epsilon; theta.
    for (config, shape, window, tied, epsilon, theta) in [
        (bare("llama"), (32, 64), None, false, 1e-6, 1e4),
        (bare("mistral"), (8, 64), Some(4096), false, 1e-6, 1e4),
        (bare("qwen2"), (32, 64), None, false, 1e-6, 1e4),
        (bare("qwen3"), (32, 128), None, false, 1e-6, 1e4),
        (bare("gemma"), (16, 256), None, true, 1e-6, 1e4),
        (bare_gemma2(), (16, 256), Some(4096), true, 1e-6, 1e4),
        (bare("gemma3_text"), (4, 256), Some(4096), true, 1e-6, 1e6),
        (bare("phi"), (32, 64), None, false, 1e-5, 1e4),
        (bare("phi3"), (32, 64), None, false, 1e-5, 1e4),
        (bare("starcoder2"), (2, 64), None, true, 1e-5, 1e4),
    ] {
        let decoder = parse(&config).unwrap();
        let Attention { n_kv_head, head_dim, .. } = decoder.attention;
        let found = (decoder.norms.epsilon, decoder.attention.ropes[0].theta);
        assert_eq!((n_kv_head, head_dim), shape, "{config}");
        assert_eq!((decoder.window(0), decoder.head.tied), (window, tied), "{config}");
        assert_eq!(found, (epsilon, theta), "{config}");
    }
    assert_eq!(caps(&bare_gemma2()), (Some(50.0), Some(30.0)));
    assert_eq!(caps(&bare("gemma3_text")), (None, None));
    assert_eq!(parse(&bare("gemma3_text")).unwrap().attention.scale, 1.0 / 16.0);
    for (layer, window) in [(27, None), (28, Some(4096))] {
        let used = with(bare("qwen2"), "use_sliding_window", json!(true));
        assert_eq!(parse(&used).unwrap().window(layer), window);
    }
    let gptj = with(with(gpt2("gptj"), "n_head", json!(1)), "n_embd", json!(256));
    assert_eq!(parse(&gptj).unwrap().attention.ropes[0].n_rot, 64);
    assert_eq!(parse(&gpt2("gpt2")).unwrap().mlp.n_inner, 4 * 64);
}

#[test]
fn a_null_means_absence_and_not_the_default() {
    assert_eq!(parse(&with(bare("mistral"), "sliding_window", json!(null))).unwrap().window(0), None);
    let heads = with(bare("mistral"), "num_key_value_heads", json!(null));
    assert_eq!(parse(&heads).unwrap().attention.n_kv_head, 32);
    assert_eq!(caps(&with(bare_gemma2(), "attn_logit_softcapping", json!(null))), (None, Some(30.0)));
}

/// A field is required if its default would fit only one model, or differs between
/// versions.
#[test]
fn fields_without_a_default_are_required() {
    for (mut config, field) in [
        (bare("llama"), "intermediate_size"),
        (opt(), "ffn_dim"),
        (bare_gemma2(), "query_pre_attn_scalar"),
        (bare_gemma2(), "num_key_value_heads"),
    ] {
        config.as_object_mut().unwrap().remove(field);
        assert!(refused(&config).contains(&format!("{field} = (absent)")), "{config}");
    }
}

#[test]
fn windows_are_in_the_layers_that_the_config_names() {
    let windows = |config: &Value| -> Vec<Option<usize>> {
        let decoder = parse(config).unwrap();
        (0..decoder.n_layer).map(|layer| decoder.window(layer)).collect()
    };
    let windowed = |model_type| {
        let config = with(llama(model_type), "sliding_window", json!(16));
        // This field is required in Gemma 2.
        if model_type == "gemma2" { with(config, "query_pre_attn_scalar", json!(16)) } else { config }
    };
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
    let listed =
        with(with(neo.clone(), "attention_types", json!(null)), "attention_layers", json!(["local"]));
    assert!(refused(&listed).contains("a list of 4 words, global or local"));
    assert!(
        refused(&with(listed, "attention_layers", json!(null))).contains("global or local for each layer")
    );
    let types = with(windowed("gemma2"), "layer_types", json!(["chunked_attention"]));
    assert!(refused(&types).contains("full_attention or sliding_attention"));
    assert!(refused(&with(neo, "attention_types", json!("local"))).contains("attention_types"));
    let longest = |config: &Value| KvGroup::of(&parse(config).unwrap(), usize::MAX)[0].window;
    assert_eq!((longest(&windowed("mistral")), longest(&windowed("gemma2"))), (some, none));
}

#[test]
fn blocks_match_their_papers() {
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
