//! Tokenizers against the vocabularies of their models.

use wgpt::{Error, Tokenizer};

const GPT2: &str = "tests/golden/gpt2-tokenizer/tokenizer.json";

#[test]
fn the_demo_tokenizer_fits_its_model() {
    let tokenizer = Tokenizer::from_file("weights/tokenizer.json").unwrap();
    assert_eq!(tokenizer.vocab_size(), 2048);
    tokenizer.check_vocab(2048).unwrap();
    let text = "Once upon a time, Lily said: \"Hi!\"\n<|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(ids.last(), Some(&0));
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
}

#[test]
fn a_tokenizer_larger_than_the_model_is_an_error() {
    let tokenizer = Tokenizer::from_file(GPT2).unwrap();
    tokenizer.check_vocab(50257).unwrap();
    tokenizer.check_vocab(50304).unwrap();
    let error = tokenizer.check_vocab(50256).unwrap_err();
    assert!(matches!(&error, Error::Model { file, .. } if file == GPT2));
    let message = error.to_string();
    for part in ["<|endoftext|>", "id 50256", "at least 50257", "has 50256", GPT2] {
        assert!(message.contains(part), "{message}");
    }
}
