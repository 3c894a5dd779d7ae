//! Failures in the middle of a call. These tests need the library's internals.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::bound::Entered;
use super::{Budget, Chat, Engine, GenerateOptions, ModelFiles, Overflow};
use crate::gpu::{Call, Fault, FaultInjector, Gpu, GpuOptions};
use crate::model::{ModelOptions, PassOwner, random};
use crate::sampling::SamplingParams;

/// Loads a model on a separate device. Also returns the injector that makes the device's
/// calls fail.
fn load(files: ModelFiles, options: &ModelOptions) -> (Engine, FaultInjector) {
    let device = std::env::var("WGPT_DEVICE").ok().filter(|device| !device.is_empty());
    let gpu = Gpu::open(&GpuOptions { device, ..GpuOptions::default() }).expect("an adapter");
    let faults = gpu.faults();
    let engine = Engine::load(files, Arc::new(gpu), options, &mut |_| ControlFlow::Continue(())).unwrap();
    (engine, faults)
}

fn small() -> ModelFiles {
    let shape = random::shape("n_layer=2,n_embd=16,n_head=2,n_inner=32,vocab_size=50,n_positions=64");
    ModelFiles::random(shape.unwrap(), 3).unwrap()
}

/// A call of another session finishes an unfinished pass, with the pass's own uploads.
#[test]
fn a_pass_that_has_not_run_yet_keeps_its_uploads() {
    let (engine, _) = load(small(), &ModelOptions::default());
    let tokens = [1, 2, 3];
    let expected = engine.session().advance(&tokens).unwrap().to_vec();
    let next = {
        let mut session = engine.session();
        session.prefill(&tokens).unwrap();
        session.advance(&[4]).unwrap().to_vec()
    };
    for with_logits in [true, false] {
        let other: Vec<f32> = engine.session().advance(&[9, 8]).unwrap().to_vec();
        let (mut session, owner) = (engine.session(), PassOwner::unique());
        let Entered { mut forward, bound } = engine.shared.enter();
        forward.begin_pass(&bound.model, owner, &mut session.pages, &tokens, 0, with_logits).unwrap();
        drop(forward);
        assert_eq!(engine.session().advance(&[9, 8]).unwrap(), other);
        let mut logits = Vec::new();
        let finished = engine.shared.lock().take_finished(owner, &mut logits).unwrap();
        assert_eq!(finished, Some(tokens.len()));
        assert_eq!(logits, if with_logits { &expected[..] } else { &[] });
        session.tokens.extend_from_slice(&tokens);
        assert_eq!(session.advance(&[4]).unwrap(), next);
    }
}

/// Steps ahead whose results could not be read are computed again when the text resumes.
#[test]
fn a_text_resumes_after_unreadable_steps_ahead() {
    let options = ModelOptions { steps_ahead: Some(4), ..ModelOptions::default() };
    let (engine, faults) = load(small(), &options);
    let options = || GenerateOptions {
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_new_tokens: Some(40),
        ignore_eos: true,
        overflow: Overflow::Stop,
        ..GenerateOptions::default()
    };
    let mut whole = engine.generate_tokens(&[1, 2], options()).unwrap();
    whole.by_ref().for_each(|piece| drop(piece.unwrap()));
    assert_eq!(whole.tokens().len(), 40);

    let mut text = engine.generate_tokens(&[1, 2], options()).unwrap();
    text.by_ref().take(6).for_each(|piece| drop(piece.unwrap()));
    faults.inject(Call::Wait, 0, Fault::Validation);
    assert!(text.step(Budget::millis(1000)).is_err());
    assert_eq!(faults.clear(), 0, "steps were in flight");
    text.resume();
    text.by_ref().for_each(|piece| drop(piece.unwrap()));
    assert_eq!(text.tokens(), whole.tokens());
}

/// A message whose options are refused does not cost the conversation its cached tokens.
#[test]
fn a_chat_keeps_its_session_if_options_are_refused() {
    let files = ModelFiles::open(concat!(env!("CARGO_MANIFEST_DIR"), "/weights").as_ref()).unwrap();
    let template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}";
    let template = files.compile_chat_template("test", template).unwrap();
    let (engine, _) = load(files, &ModelOptions::default());
    let mut chat = Chat::new(&engine, template).unwrap();
    let options = GenerateOptions { max_new_tokens: Some(3), ..GenerateOptions::default() };
    chat.send("Once upon a time", options.clone()).unwrap().finish().unwrap();
    let (cached, messages) = (chat.cached_tokens(), chat.messages().to_vec());
    assert!(cached > 0);
    let refused = [
        GenerateOptions { stop: vec![String::new()], ..options.clone() },
        GenerateOptions {
            prompt_lookup: Some(1000),
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            ..options
        },
    ];
    for options in refused {
        assert!(chat.send("there was", options).is_err());
        assert!((1..=cached).contains(&chat.cached_tokens()));
        assert_eq!(chat.messages(), messages);
    }
}
