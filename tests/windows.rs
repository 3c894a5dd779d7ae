//! Models of which every layer has a window: pages that fall out of it are given back,
//! and nothing that a session can do depends on them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use wgpt::engine::ModelFiles;
use wgpt::gpu::{Gpu, GpuOptions, MemoryGroup};
use wgpt::kernels::PAGE_SIZE;
use wgpt::model::ModelOptions;
use wgpt::sampling::SamplingParams;
use wgpt::{Engine, GenerateOptions, Session};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| {
    let options = GpuOptions { device: std::env::var("WGPT_DEVICE").ok(), ..GpuOptions::default() };
    Arc::new(Gpu::open(&options).expect("the tests need an adapter: tools/setup_vulkan.sh installs one"))
});

/// Windows of 7 positions.
const GOLDEN: &str = "tests/golden/mistral/window7";

/// Pages that a session of that model holds at the most: the window, the 64 positions
/// in front of it that are kept, the chunk, and a page that is begun at either end.
const fn most_pages(chunk: usize) -> usize {
    (7 + 64 + chunk).div_ceil(PAGE_SIZE) + 1
}

/// The model with a context of 1000 positions.
fn engine(options: ModelOptions) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(Path::new(GOLDEN).join("config.json")).unwrap();
    let longer = config.replace("\"max_position_embeddings\": 128", "\"max_position_embeddings\": 1000");
    assert_ne!(config, longer);
    std::fs::write(dir.path().join("config.json"), longer).unwrap();
    std::fs::copy(Path::new(GOLDEN).join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let files = ModelFiles::open(dir.path()).unwrap();
    let options = ModelOptions { deterministic: true, ..options };
    Engine::load(files, Arc::clone(&GPU), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn chunks_of(prefill_chunk: usize) -> Engine {
    engine(ModelOptions { prefill_chunk, ..ModelOptions::default() })
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 31 + 11) % 139).collect()
}

fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.advance(tokens).unwrap().to_vec()
}

#[test]
fn a_long_sequence_holds_the_pages_of_its_window() {
    let engine = chunks_of(32);
    let planned = engine.memory_plan().group_bytes(MemoryGroup::KvCache);
    // Two layers, k and v of one head of 20 elements, padded to 24, in f16.
    let page_bytes = 2 * PAGE_SIZE * 24 * 2;
    assert!(planned < (2 * most_pages(32) * page_bytes + 2 * page_bytes) as u64, "{planned} bytes");
    assert_eq!(engine.kv_pages().1, most_pages(32), "the pool begins with what the window needs");
    let all = tokens(700);
    let mut session = engine.session();
    for piece in all.chunks(90) {
        session.prefill(piece).unwrap();
        assert!(engine.kv_pages().0 <= most_pages(32), "{} pages at {}", engine.kv_pages().0, session.len());
    }
    for &token in &all[..200] {
        session.prefill(&[token]).unwrap();
        assert!(engine.kv_pages().0 <= most_pages(1));
    }
    assert_eq!(engine.kv_pages().1, most_pages(32), "the pool has not grown");
    drop(session);
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn chunks_do_not_change_what_a_window_sees() {
    let all = tokens(300);
    let mut whole = chunks_of(512).session();
    let expected = logits(&mut whole, &all);
    for chunk in [1, 7, 33, 64] {
        let engine = chunks_of(chunk);
        assert_eq!(expected, logits(&mut engine.session(), &all), "chunks of {chunk}");
    }
}

#[test]
fn truncated_sessions_go_on_as_fresh_ones() {
    let engine = chunks_of(32);
    let all = tokens(400);
    // Within what is kept, at its border, and far behind it.
    for len in [399, 380, 337, 336, 335, 200, 3] {
        let mut session = engine.session();
        session.prefill(&all).unwrap();
        session.truncate(len);
        let found = logits(&mut session, &[5, 6]);
        let mut fresh = engine.session();
        fresh.prefill(&all[..len]).unwrap();
        assert_eq!(found, logits(&mut fresh, &[5, 6]), "truncated to {len}");
    }
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn forks_keep_what_they_see() {
    let engine = chunks_of(32);
    let all = tokens(330);
    let mut first = engine.session();
    first.prefill(&all[..150]).unwrap();
    let mut second = first.fork();
    // The first one gives back pages that the second one still sees.
    first.prefill(&all[150..]).unwrap();
    let late = logits(&mut first, &[9]);
    let early = logits(&mut second, &all[150..160]);
    let mut fresh = engine.session();
    assert_eq!(early, logits(&mut fresh, &all[..160]));
    fresh.prefill(&all[160..]).unwrap();
    assert_eq!(late, logits(&mut fresh, &[9]));
    drop((first, second, fresh));
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn a_saved_session_without_its_first_pages_goes_on() {
    let engine = chunks_of(32);
    let all = tokens(300);
    let dir = tempfile::tempdir().unwrap();
    for n in [40, 300] {
        let path = dir.path().join(format!("{n}.session"));
        let mut session = engine.session();
        session.prefill(&all[..n]).unwrap();
        session.save(&path).unwrap();
        let mut restored = engine.restore(&path).unwrap();
        assert_eq!(restored.tokens(), session.tokens());
        assert_eq!(logits(&mut restored, &[3]), logits(&mut session, &[3]), "{n} tokens");
    }
}

#[test]
fn drafts_are_taken_back_within_a_window() {
    let text = |lookup| {
        let engine = chunks_of(32);
        // A period, so that drafts are made and fail at times.
        let prompt: Vec<u32> = (0..300).map(|i| [4, 9, 2, 77, 50][i % 5]).collect();
        let options = GenerateOptions {
            max_new_tokens: Some(150),
            ignore_eos: true,
            sampling: SamplingParams::greedy(),
            prompt_lookup: lookup,
            ..GenerateOptions::default()
        };
        let session = engine.session();
        let mut generation = session.generate(&prompt, options).unwrap();
        let all: Vec<u32> = generation.by_ref().filter_map(|token| token.unwrap().token).collect();
        assert!(engine.kv_pages().1 <= most_pages(32) + 2, "{:?}", engine.kv_pages());
        all
    };
    assert_eq!(text(None), text(Some(8)));
}
