//! The tokenizer and the text streams with real vocabularies: GPT-2's and the demo
//! model's.

use std::fs;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wgpt::{Error, ErrorKind, StreamDecoder, Tokenizer};

const GPT2: &str = "tests/golden/gpt2-tokenizer/tokenizer.json";
const DEMO: &str = "weights/tokenizer.json";
const GOLDEN: &str = "tests/golden/gpt2-tokenizer/golden_encodings.json";

#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
}

/// Emoji joined by zero-width joiners, skin tones, flags, three scripts, combining marks,
/// a real U+FFFD.
const MIXED: &str = "👩‍👩‍👧‍👦 👍🏽 🇫🇷🚀 日本語の文章。 한국어 Ελληνικά naïve e\u{301} \u{fffd}\u{fffd} שלום\r\n\0end";

fn gpt2() -> Tokenizer {
    Tokenizer::from_file(GPT2).unwrap()
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32], skip: bool) -> Vec<String> {
    let mut decoder = StreamDecoder::new(tokenizer.clone(), skip);
    let mut pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
    pieces.push(decoder.finish().unwrap());
    pieces
}

#[test]
fn encodings_match_the_golden_ones_of_gpt2() {
    let tokenizer = gpt2();
    assert_eq!(tokenizer.vocab_size(), 50257);
    assert_eq!(tokenizer.token_to_id("<|endoftext|>"), Some(50256));
    assert_eq!(tokenizer.id_to_token(50256).as_deref(), Some("<|endoftext|>"));
    assert_eq!(tokenizer.id_to_token(50257), None);
    assert!(tokenizer.is_special("<|endoftext|>") && !tokenizer.is_special("the"));
    let golden: Vec<Golden> = serde_json::from_slice(&fs::read(GOLDEN).unwrap()).unwrap();
    assert_eq!(golden.len(), 11);
    for Golden { text, ids } in golden {
        assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        assert_eq!(pieces(&tokenizer, &ids, false).concat(), text);
    }
}

#[test]
fn special_tokens_are_omitted_on_request() {
    let tokenizer = gpt2();
    assert_eq!(tokenizer.decode(&[64, 50256, 65], true).unwrap(), "ab");
    assert_eq!(pieces(&tokenizer, &[64, 50256, 65], true), ["a", "", "b", ""]);
    assert_eq!(pieces(&tokenizer, &[64, 50256, 65], false), ["a", "<|endoftext|>", "b", ""]);
}

#[test]
fn streamed_pieces_are_whole_characters_and_final() {
    for tokenizer in [gpt2(), Tokenizer::from_file(DEMO).unwrap()] {
        let ids = tokenizer.encode(MIXED).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), MIXED);
        let mut decoder = StreamDecoder::new(tokenizer.clone(), false);
        let mut text = String::new();
        let mut held = 0;
        for (i, &id) in ids.iter().enumerate() {
            let piece = decoder.push(id).unwrap();
            held += usize::from(piece.is_empty());
            text.push_str(&piece);
            assert!(MIXED.starts_with(&text), "{text:?}");
            // Only the beginning of one character is held back.
            let whole = tokenizer.decode(&ids[..=i], false).unwrap();
            assert!(text == whole || whole.strip_prefix(&text) == Some("\u{fffd}"), "{text:?} {whole:?}");
        }
        assert!(held > 20, "characters are spread over tokens: {held}");
        assert_eq!(text, MIXED);
        assert_eq!(decoder.finish().unwrap(), "");
    }
}

#[test]
fn an_emoji_of_several_tokens_is_returned_whole() {
    // 🎉 is 8582 236 231 in the golden encodings, after the space of 12520.
    assert_eq!(pieces(&gpt2(), &[12520, 236, 231], false), [" ", "", "🎉", ""]);
    assert_eq!(pieces(&gpt2(), &[8582, 236], false), ["", "", "\u{fffd}"]);
    assert_eq!(pieces(&gpt2(), &[8582, 64], false), ["", "\u{fffd}a", ""]);
}

#[test]
fn random_streams_equal_the_lossy_decoding_of_the_whole() {
    let tokenizer = gpt2();
    // Tokens that are not valid UTF-8 on their own: parts of characters.
    let broken: Vec<u32> =
        (0..50256).filter(|&id| tokenizer.decode(&[id], false).unwrap().contains('\u{fffd}')).collect();
    assert!(broken.len() > 300, "{}", broken.len());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
    for round in 0..2000 {
        // Alternately any id, including ids without a token, and only parts of
        // characters.
        let ids: Vec<u32> = (0..1 + below(60))
            .map(|_| if round % 2 == 0 { below(50_300) as u32 } else { broken[below(broken.len())] })
            .collect();
        for skip in [false, true] {
            let whole = tokenizer.decode(&ids, skip).unwrap();
            assert_eq!(pieces(&tokenizer, &ids, skip).concat(), whole, "{ids:?}");
        }
    }
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(DEMO).unwrap()).unwrap();
    json["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let changed = Tokenizer::from_bytes("changed", &serde_json::to_vec(&json).unwrap()).unwrap();
    let plain = Tokenizer::from_file(DEMO).unwrap();
    let ids = plain.encode(MIXED).unwrap();
    assert!(ids.len() > 2);
    assert_eq!(changed.encode(MIXED).unwrap(), ids);
}

#[test]
fn a_panic_of_the_library_is_an_error_that_names_the_file() {
    let load = |change: fn(&mut serde_json::Value)| {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(DEMO).unwrap()).unwrap();
        change(&mut json);
        Tokenizer::from_bytes("my.json", &serde_json::to_vec(&json).unwrap())
    };
    let loading = load(|json| json["model"]["continuing_subword_prefix"] = "longer than a token".into());
    let encoding = load(|json| {
        json["normalizer"] =
            serde_json::json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"});
    });
    let decoding = load(|json| {
        json["decoder"] = serde_json::json!({"type": "Strip", "content": "a", "start": 0, "stop": 9});
    });
    let decoding = decoding.unwrap();
    let a = decoding.token_to_id("a").unwrap();
    let errors = [
        ("expected a tokenizer.json", loading.map(|_| ()).unwrap_err()),
        ("cannot encode the text", encoding.unwrap().encode("wörld").unwrap_err()),
        ("cannot decode the tokens", decoding.decode(&[a], false).unwrap_err()),
    ];
    for (doing, error) in errors {
        assert!(matches!(error, Error::Model { .. }));
        let expected = format!("my.json: {doing}: the tokenizers library panics on this file");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn files_without_a_tokenizer_are_named() {
    let missing = Tokenizer::from_file("no/such/tokenizer.json").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Input);
    assert!(missing.to_string().starts_with("cannot read no/such/tokenizer.json: "), "{missing}");
    let demo = fs::read(DEMO).unwrap();
    for bytes in [&b""[..], b"{}", b"[1]", b"\xff\xfe", b"not json", &demo[..demo.len() / 2]] {
        let error = Tokenizer::from_bytes("my.json", bytes).unwrap_err();
        assert!(matches!(error, Error::Model { .. }));
        assert!(error.to_string().starts_with("my.json: expected a tokenizer.json: "), "{error}");
    }
}

#[test]
fn a_long_run_of_one_character_is_encoded_whole() {
    // As many characters as the regex engine's limit on backtracking steps.
    let tokenizer = gpt2();
    for c in [" ", "a", "\n", "1", "!"] {
        let text = c.repeat(1_000_000);
        let ids = tokenizer.encode(&text).unwrap();
        assert!(tokenizer.decode(&ids, false).unwrap() == text, "{c:?}");
    }
}

#[test]
fn each_token_decodes_to_its_bytes() {
    let tokenizer = gpt2();
    for text in ["naïve 日本語 🎉\n<|endoftext|>", " two  spaces"] {
        let ids = tokenizer.encode(text).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).collect();
        assert_eq!(bytes, text.as_bytes());
    }
    assert_eq!(tokenizer.token_bytes(u32::MAX), [0; 0]);
}

/// A SentencePiece vocabulary with byte tokens, and a template with a begin-of-text
/// token.
#[test]
fn a_template_defines_the_leading_token() {
    assert_eq!(gpt2().leading_token().unwrap(), None);
    let file = r#"{"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "BPE", "merges": [], "vocab": {"a": 0, "<s>": 1, "▁the": 2, "<0xE6>": 3}}}"#;
    let tokenizer = Tokenizer::from_bytes("llama", file.as_bytes()).unwrap();
    assert_eq!(tokenizer.leading_token().unwrap(), Some(1));
    assert_eq!(tokenizer.encode("a").unwrap(), [0]);
    let bytes = |id| tokenizer.token_bytes(id);
    assert_eq!([bytes(0), bytes(1), bytes(2), bytes(3)], [&b"a"[..], b"<s>", b" the", b"\xE6"]);
}
