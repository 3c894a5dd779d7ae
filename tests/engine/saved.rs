//! Saved sessions continue exactly as before, and every fault of a file is reported.

use std::fs;
use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wgpt::internals::kernels::PAGE_SIZE;
use wgpt::internals::model::random;
use wgpt::{
    DType, Engine, Error, GenerateOptions, Generation, Gpu, GpuOptions, ModelFiles, ModelOptions, Overflow,
    SamplingParams, Session,
};

use crate::{deterministic, load_files, support, tiny_files};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(support::open_gpu(GpuOptions::default())));

const SHAPE: &str = "n_layer=3,n_embd=40,n_head=5,n_inner=64,vocab_size=300,n_positions=128";

fn random_files(shape: &str, seed: u64) -> ModelFiles {
    ModelFiles::random(random::shape(shape).unwrap(), seed).unwrap()
}

fn engine(options: &ModelOptions) -> Engine {
    load_files(random_files(SHAPE, 1), &GPU, options)
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % 300).collect()
}

fn session(engine: &Engine, n: usize) -> Session {
    let mut session = engine.session();
    if n > 0 {
        session.prefill(&tokens(n)).unwrap();
    }
    session
}

/// Returns the next logits and those of a second step, as bits.
fn next_bits(session: &mut Session) -> Vec<u32> {
    let mut all = session.advance(&[7, 8, 9]).unwrap().to_vec();
    all.extend(session.advance(&[299]).unwrap());
    all.into_iter().map(f32::to_bits).collect()
}

fn saved(session: &Session) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("session");
    session.save(&path).unwrap();
    // No other file is left.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::read(path).unwrap()
}

fn restore(engine: &Engine, bytes: &[u8]) -> wgpt::Result<Session> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("story.session");
    fs::write(&path, bytes).unwrap();
    engine.restore(&path)
}

/// Returns the message of a refusal, which names the file. No page stays in use.
fn refused(engine: &Engine, bytes: &[u8]) -> String {
    let held = engine.kv_pages().0;
    let error = restore(engine, bytes).err().expect("the file was taken");
    assert_eq!(engine.kv_pages().0, held, "{error}");
    let message = error.to_string();
    assert!(message.contains("story.session"), "{message}");
    message
}

/// Returns the size of magic, version, header length, header and digest, in bytes.
fn front_bytes(file: &[u8]) -> usize {
    16 + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize + 32
}

/// Returns the file with a changed header and valid digests.
fn with_header(file: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let front = front_bytes(file);
    let mut header: serde_json::Value = serde_json::from_slice(&file[16..front - 32]).unwrap();
    change(&mut header);
    let json = serde_json::to_vec(&header).unwrap();
    let mut new = file[..12].to_vec();
    new.extend((json.len() as u32).to_le_bytes());
    new.extend(json);
    let digest = Sha256::digest(&new);
    new.extend(digest);
    new.extend(&file[front..file.len() - 32]);
    let digest = Sha256::digest(&new);
    new.extend(digest);
    new
}

fn pages_of(file: &[u8]) -> bool {
    let header: serde_json::Value = serde_json::from_slice(&file[16..front_bytes(file) - 32]).unwrap();
    !header["pages"].is_null()
}

#[test]
fn a_session_continues_with_the_same_bits() {
    for kv_dtype in [DType::F16, DType::F32] {
        let engine = engine(&ModelOptions { kv_dtype, ..deterministic() });
        for n in [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 100] {
            let mut first = session(&engine, n);
            let file = saved(&first);
            assert!(pages_of(&file));
            let mut second = restore(&engine, &file).unwrap();
            assert_eq!(second.tokens(), first.tokens());
            // The restored session's file is the same, too.
            assert_eq!(saved(&second), file, "{kv_dtype} {n}");
            // The restored session has its own pages; nothing is run again for them.
            assert_eq!(engine.kv_pages().0, 2 * n.div_ceil(PAGE_SIZE));
            assert_eq!(next_bits(&mut second), next_bits(&mut first), "{kv_dtype} {n}");
        }
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn pages_are_restored_and_not_only_tokens() {
    // All keys and values are set to zero, which no model computes; the logits must show
    // it.
    let engine = engine(&deterministic());
    let mut first = session(&engine, 40);
    let mut file = saved(&first);
    let (from, to) = (front_bytes(&file) + 4 * 40, file.len() - 32);
    file[from..to].fill(0);
    let zeroed = with_header(&file, |_| {});
    assert_ne!(next_bits(&mut restore(&engine, &zeroed).unwrap()), next_bits(&mut first));
}

#[test]
fn empty_forked_and_rewound_sessions_can_be_saved() {
    let engine = engine(&deterministic());
    let empty = saved(&engine.session());
    let mut restored = restore(&engine, &empty).unwrap();
    assert!(restored.is_empty() && !pages_of(&empty));
    assert_eq!(next_bits(&mut restored), next_bits(&mut engine.session()));

    let first = session(&engine, 50);
    let mut fork = first.fork();
    fork.truncate(37);
    fork.prefill(&[5, 6]).unwrap();
    let mut twin = restore(&engine, &saved(&fork)).unwrap();
    assert_eq!(next_bits(&mut twin), next_bits(&mut fork));
    // The first session is unchanged, and so is its file.
    assert_eq!(saved(&first), saved(&session(&engine, 50)));
}

#[test]
fn a_file_contains_nothing_of_other_sessions() {
    let engine = engine(&deterministic());
    // This session leaves its keys and values in pages that the next one takes.
    drop(session(&engine, 120));
    let one = session(&engine, 20);
    let file = saved(&one);
    let fresh = load_files(random_files(SHAPE, 1), &GPU, &deterministic());
    assert_eq!(file, saved(&session(&fresh, 20)));
}

#[test]
fn long_pages_are_copied_in_pieces_over_several_slabs() {
    // A binding holds 5 pages, so there are two slabs. The readback buffer is sized for
    // the logits, which is less than a page: [2, 5, 16, 8] f32.
    let shape = "n_layer=3,n_embd=40,n_head=5,n_inner=48,vocab_size=8,n_positions=120";
    let options = ModelOptions { kv_dtype: DType::F32, prefill_chunk: 3, ..deterministic() };
    let gpu = Arc::new(support::open_gpu(GpuOptions {
        max_binding_bytes: Some(26 << 10),
        ..GpuOptions::default()
    }));
    let [small, large] = [&gpu, &*GPU].map(|gpu| load_files(random_files(shape, 2), gpu, &options));
    let ids: Vec<u32> = (0..110).map(|i| i * 3 % 8).collect();
    let next = |session: &mut Session| session.advance(&[1, 2]).unwrap().to_vec();
    let mut first = small.session();
    first.prefill(&ids).unwrap();
    let file = saved(&first);
    let page_bytes = 2 * 5 * 16 * 8 * 4;
    assert_eq!(file.len(), front_bytes(&file) + 4 * 110 + 3 * 7 * page_bytes + 32);
    let mut here = restore(&small, &file).unwrap();
    let mut there = restore(&large, &file).unwrap();
    assert_eq!(saved(&there), file);
    let expected = next(&mut first);
    assert_eq!(next(&mut here), expected);
    assert_eq!(next(&mut there), expected);
}

#[test]
fn other_chunks_contexts_and_devices_can_use_the_pages() {
    let first = engine(&deterministic());
    let mut original = session(&first, 60);
    let file = saved(&original);
    let expected = next_bits(&mut original);
    let chunk = engine(&ModelOptions { prefill_chunk: 7, ..deterministic() });
    let short = engine(&ModelOptions { n_ctx: Some(64), ..deterministic() });
    for other in [&chunk, &short] {
        let mut restored = restore(other, &file).unwrap();
        assert_eq!(other.kv_pages().0, 4);
        assert_eq!(next_bits(&mut restored), expected);
    }
    let other = Arc::new(support::open_gpu(GpuOptions::default()));
    first.rebind(Arc::clone(&other)).unwrap();
    let mut restored = restore(&first, &file).unwrap();
    assert_eq!(next_bits(&mut restored), expected);
    // A context that is too short is reported.
    let tiny = engine(&ModelOptions { n_ctx: Some(59), ..deterministic() });
    let message = refused(&tiny, &file);
    assert!(message.contains("60 tokens") && message.contains("59"), "{message}");
}

#[test]
fn pages_of_a_different_engine_are_recomputed() {
    let original = saved(&session(&engine(&deterministic()), 60));
    let others = [
        ModelOptions { kv_dtype: DType::F32, ..deterministic() },
        ModelOptions { dtype: DType::F32, ..deterministic() },
        ModelOptions::default(),
    ];
    for options in others {
        let engine = engine(&options);
        let mut restored = restore(&engine, &original).unwrap();
        assert_eq!((restored.len(), engine.kv_pages().0), (60, 0));
        let mut own = session(&engine, 60);
        assert_eq!(next_bits(&mut restored), next_bits(&mut own), "{options:?}");
    }
}

#[test]
fn a_session_of_another_device_is_saved_as_tokens() {
    let engine = engine(&deterministic());
    let mut first = session(&engine, 33);
    let fork = first.fork();
    engine.rebind(Arc::new(support::open_gpu(GpuOptions::default()))).unwrap();
    let file = saved(&fork);
    assert!(!pages_of(&file));
    let mut restored = restore(&engine, &file).unwrap();
    let expected = next_bits(&mut first);
    assert_eq!(next_bits(&mut restored), expected);
}

#[test]
fn another_model_is_refused() {
    let file = saved(&session(&engine(&deterministic()), 20));
    let other_weights = load_files(random_files(SHAPE, 2), &GPU, &deterministic());
    let message = refused(&other_weights, &file);
    assert!(message.contains("another model") && message.contains("weights differ"), "{message}");
    let shape = SHAPE.replace("n_head=5", "n_head=4");
    let other_config = load_files(random_files(&shape, 1), &GPU, &deterministic());
    let message = refused(&other_config, &file);
    assert!(message.contains("config.json differs"), "{message}");
    let tiny = tiny_files();
    let message = refused(&load_files(tiny, &GPU, &deterministic()), &file);
    assert!(message.contains("another model"), "{message}");
}

#[test]
fn every_truncation_is_detected() {
    let engine = engine(&deterministic());
    let file = saved(&session(&engine, 20));
    let front = front_bytes(&file);
    // Every length in the front part, and samples of each later part.
    let mut lengths: Vec<usize> = (0..front + 4 * 20 + 8).collect();
    lengths.extend((front + 88..file.len() - 40).step_by(997));
    lengths.extend(file.len() - 40..file.len());
    for len in lengths {
        let message = refused(&engine, &file[..len]);
        assert!(message.contains("cut short"), "{len} of {}: {message}", file.len());
    }
    let message = refused(&engine, &[&file[..], &[0]].concat());
    assert!(message.contains("1 too many"), "{message}");
}

#[test]
fn every_flipped_bit_is_detected() {
    let engine = engine(&deterministic());
    let file = saved(&session(&engine, 20));
    let front = front_bytes(&file);
    let places =
        (0..front + 80).chain((front + 80..file.len() - 32).step_by(211)).chain(file.len() - 32..file.len());
    let mut seen = std::collections::BTreeSet::new();
    for (i, place) in places.enumerate() {
        let mut damaged = file.clone();
        damaged[place] ^= 1 << (i % 8);
        let message = refused(&engine, &damaged);
        let words = ["not a saved session", "of format", "damaged"];
        let word = words.into_iter().find(|word| message.contains(word));
        seen.insert(word.unwrap_or_else(|| panic!("byte {place}: {message}")));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn another_version_is_named() {
    let engine = engine(&deterministic());
    let mut file = saved(&session(&engine, 3));
    file[8..12].copy_from_slice(&1u32.to_le_bytes());
    let message = refused(&engine, &file);
    assert!(message.contains("format 1") && message.contains("reads 2"), "{message}");
}

#[test]
fn headers_with_false_numbers_are_refused() {
    let engine = engine(&deterministic());
    let file = saved(&session(&engine, 20));
    assert!(restore(&engine, &with_header(&file, |_| {})).is_ok());
    let false_values: [(&str, serde_json::Value); 11] = [
        ("/n_tokens", u64::MAX.into()),
        ("/n_tokens", (1u64 << 40).into()),
        ("/n_tokens", 21.into()),
        ("/n_tokens", (-1).into()),
        ("/pages/n_pages", u64::MAX.into()),
        ("/pages/page_bytes", (1u64 << 62).into()),
        ("/pages/kv_dtype", "f64".into()),
        ("/pages", serde_json::Value::Null),
        ("/first_pages/0", 1.into()),
        ("/first_pages/0", u64::MAX.into()),
        ("/first_pages", serde_json::json!([])),
    ];
    for (pointer, value) in false_values {
        let changed = with_header(&file, |header| *header.pointer_mut(pointer).unwrap() = value.clone());
        let message = refused(&engine, &changed);
        let explained = ["cut short", "damaged"].iter().any(|word| message.contains(word));
        assert!(explained, "{pointer} {value}: {message}");
    }
    // These numbers agree with the length, but not with the session: only the tokens are
    // used.
    let mut restored = restore(
        &engine,
        &with_header(&file, |header| {
            header["pages"]["n_layer"] = 1.into();
            header["pages"]["n_pages"] = 6.into();
            header["first_pages"] = serde_json::json!([0]);
        }),
    )
    .unwrap();
    assert_eq!(next_bits(&mut restored), next_bits(&mut session(&engine, 20)));
    let message = refused(&engine, &{
        let mut file = file.clone();
        let at = front_bytes(&file);
        file[at..at + 4].copy_from_slice(&300u32.to_le_bytes());
        with_header(&file, |_| {})
    });
    assert!(message.contains("token 300"), "{message}");
}

#[test]
fn random_damage_never_panics() {
    let engine = engine(&deterministic());
    let file = saved(&session(&engine, 20));
    let mut state = 99u32;
    let mut random = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    for round in 0..400 {
        let mut damaged = file.clone();
        // Half of the changes are in the front part, which holds the numbers.
        let end = if round % 2 == 0 { front_bytes(&file) } else { file.len() };
        for _ in 0..random(6) + 1 {
            match random(4) {
                0 => damaged.truncate(random(damaged.len() + 1).max(1)),
                1 => {
                    let at = random(damaged.len());
                    damaged.insert(at, random(256) as u8);
                }
                _ => {
                    let at = random(end.min(damaged.len()));
                    damaged[at] = random(256) as u8;
                }
            }
        }
        if damaged != file {
            refused(&engine, &damaged);
        }
    }
}

#[test]
fn a_failed_save_leaves_the_old_file_intact() {
    let engine = engine(&deterministic());
    let first = session(&engine, 20);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("story.session");
    first.save(&path).unwrap();
    let old = fs::read(&path).unwrap();
    let mut longer = session(&engine, 30);
    // Cancelled in the middle of the pages.
    longer.set_cancel(Arc::new(std::sync::atomic::AtomicBool::new(true)));
    assert!(matches!(longer.save(&path), Err(Error::Cancelled)));
    assert_eq!(fs::read(&path).unwrap(), old);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no partial file remains");
    // Paths that cannot be written.
    for place in [dir.path().join("missing/story.session"), dir.path().to_owned(), path.join("x")] {
        let error = first.save(&place).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Io { action: "write", .. }), "{message}");
        assert!(message.contains(place.to_str().unwrap()), "{message}");
    }
    // Over an existing file.
    session(&engine, 30).save(&path).unwrap();
    assert_eq!(engine.restore(&path).unwrap().len(), 30);
    let error = engine.restore(dir.path()).err().unwrap().to_string();
    assert!(error.contains("directory"), "{error}");
    let error = engine.restore(dir.path().join("none")).err().unwrap();
    assert!(matches!(error, Error::Io { action: "open", .. }), "{error}");
}

fn greedy(n: usize, prompt_lookup: Option<usize>) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams::greedy(),
        max_new_tokens: Some(n),
        ignore_eos: true,
        prompt_lookup,
        ..GenerateOptions::default()
    }
}

fn generated(run: &mut Generation) -> Vec<u32> {
    run.map(|piece| piece.unwrap().token.unwrap()).collect()
}

#[test]
fn a_text_continues_where_it_was_saved() {
    for (steps_ahead, lookup) in [(0, None), (4, None), (0, Some(4))] {
        let engine = engine(&ModelOptions { steps_ahead: Some(steps_ahead), ..deterministic() });
        let prompt = tokens(20);
        let whole = generated(&mut engine.generate_tokens(&prompt, greedy(40, lookup)).unwrap());
        for n in [0, 1, 13] {
            let mut first = engine.generate_tokens(&prompt, greedy(n, lookup)).unwrap();
            assert_eq!(generated(&mut first), whole[..n]);
            let session = first.into_session().unwrap();
            assert_eq!(session.tokens(), [&prompt[..], &whole[..n]].concat());
            assert_eq!(engine.kv_pages().0, (20 + n).div_ceil(PAGE_SIZE));
            let restored = restore(&engine, &saved(&session)).unwrap();
            let mut rest = restored.generate(&[], greedy(40 - n, lookup)).unwrap();
            assert_eq!(generated(&mut rest), whole[n..], "{steps_ahead} {lookup:?} {n}");
            assert_eq!(rest.timings().prompt_tokens, 1, "only the last token runs again");
            // Dropped in the middle of a text, with steps in flight.
            let mut broken = engine.generate_tokens(&prompt, greedy(40, lookup)).unwrap();
            broken.by_ref().take(n).for_each(drop);
            assert_eq!(broken.into_session().unwrap().tokens(), [&prompt[..], &whole[..n]].concat());
        }
        // With the rest of the prompt appended, as if it had been one prompt.
        let start = session(&engine, 12);
        let mut run = start.generate(&prompt[12..], greedy(40, lookup)).unwrap();
        assert_eq!((run.prompt_tokens().len(), generated(&mut run)), (20, whole));
    }
}

#[test]
fn texts_with_a_full_or_sliding_context_return_a_session() {
    let engine = engine(&ModelOptions { n_ctx: Some(32), ..deterministic() });
    let mut run = engine.generate_tokens(&tokens(20), greedy(100, None)).unwrap();
    let found = generated(&mut run);
    // The last token needs no position, and has none.
    assert_eq!(found.len(), 13);
    let session = run.into_session().unwrap();
    assert_eq!(session.tokens(), [&tokens(20)[..], &found[..12]].concat());
    let options = GenerateOptions { overflow: Overflow::Slide, ..greedy(30, None) };
    let mut run = engine.generate_tokens(&tokens(20), options).unwrap();
    let found = generated(&mut run);
    let session = run.into_session().unwrap();
    assert!(session.len() <= 32 && found.ends_with(&session.tokens()[session.len() - 8..]));
}

#[test]
fn a_full_cache_refuses_a_session_and_loses_nothing() {
    let plan = engine(&deterministic()).memory_plan().total_bytes();
    let engine = engine(&ModelOptions { memory_budget: Some(plan), ..deterministic() });
    let mut first = session(&engine, 100);
    let file = saved(&first);
    let error = restore(&engine, &file).err().unwrap();
    assert!(matches!(error, Error::Limits(_)) && error.to_string().contains("budget"), "{error}");
    assert_eq!(engine.kv_pages().0, 7);
    next_bits(&mut first);
}
