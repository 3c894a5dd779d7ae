//! The memory plan equals the allocations, byte for byte, and tensors larger than a
//! binding change no result.

use wgpt::{DType, Engine, Error, GpuOptions, MemoryGroup, ModelOptions};

use crate::support::files::{self, golden};

fn check(engine: &Engine, what: &str) {
    let (plan, gpu) = (engine.memory_plan(), engine.gpu());
    let ledger = gpu.ledger();
    for group in MemoryGroup::ALL {
        assert_eq!(plan.group_bytes(group), ledger.bytes(group), "{what}: {}", group.name());
        assert!(ledger.bytes(group) > 0, "{what}: {} is empty", group.name());
    }
    assert_eq!(plan.total_bytes(), ledger.total_bytes(), "{what}");
}

#[test]
fn the_plan_equals_what_is_allocated() {
    let options = ModelOptions::default;
    let (f16, f32) = (DType::F16, DType::F32);
    let floor = GpuOptions { features_floor: true, ..files::gpu() };
    let plain = files::gpu;
    let split = GpuOptions { max_binding_bytes: Some(200 << 10), ..files::gpu() };
    let small_chunk = ModelOptions { prefill_chunk: 16, ..options() };
    let cases = [
        (None, plain(), options()),
        (None, plain(), ModelOptions { dtype: f32, kv_dtype: f32, n_ctx: Some(100), ..options() }),
        (None, floor.clone(), ModelOptions { deterministic: true, ..options() }),
        (None, split, small_chunk),
        (None, plain(), ModelOptions { variants: vec!["gemm=split_4".parse().unwrap()], ..options() }),
        (Some("gpt2-tiny"), plain(), options()),
        (Some("gpt2-tiny"), floor, ModelOptions { dtype: f16, kv_dtype: f32, n_ctx: Some(1), ..options() }),
        (Some("gpt2-tiny"), plain(), ModelOptions { dtype: f32, prefill_chunk: 3, ..options() }),
        (Some("gpt2-oddvocab"), plain(), options()),
        (Some("gpt-nano-sort"), plain(), options()),
        (Some("gpt2-variants/tanh-25heads-bf16"), plain(), ModelOptions { kv_dtype: f32, ..options() }),
    ];
    for (name, gpu, options) in cases {
        let what = format!("{} {options:?} {gpu:?}", name.unwrap_or("demo"));
        let mut builder = Engine::builder().gpu(gpu).options(options);
        if let Some(name) = name {
            builder = builder.model(golden(name));
        }
        let engine = builder.build().unwrap();
        check(&engine, &what);
        // A whole context needs no more memory.
        let tokens: Vec<u32> =
            (0..engine.n_ctx()).map(|i| (i % engine.vocab_size().min(50)) as u32).collect();
        let mut session = engine.session();
        session.advance(&tokens).unwrap();
        check(&engine, &what);
        // Neither does another session once the first is gone.
        drop(session);
        engine.session().advance(&tokens).unwrap();
        check(&engine, &what);
        // Neither do scores, of one session and of several.
        if engine.n_ctx() >= 32 {
            let [mut one, mut two] = [engine.session(), engine.session()];
            one.advance(&tokens[..1]).unwrap();
            two.advance(&tokens[..1]).unwrap();
            engine.score(&mut [(&mut one, &tokens[1..9]), (&mut two, &tokens[1..3])]).unwrap();
            drop(two);
            one.score_detailed(&tokens[9..]).unwrap();
            check(&engine, &what);
        }
    }
}

#[test]
fn the_ledger_records_its_peak() {
    let engine = files::engine(&golden("gpt2-tiny")).build().unwrap();
    let gpu = engine.gpu();
    let ledger = gpu.ledger();
    let (total, peak) = (ledger.total_bytes(), ledger.peak_bytes());
    assert!(peak >= total, "{peak} < {total}");
    // While this buffer lives, the total is 4096 bytes above the old peak.
    let bytes = peak - total + 4096;
    let buffer = engine.gpu().allocate_with("test", &vec![0; bytes as usize], MemoryGroup::Params).unwrap();
    assert_eq!([ledger.total_bytes(), ledger.peak_bytes()], [peak + 4096; 2]);
    drop(buffer);
    assert_eq!([ledger.total_bytes(), ledger.peak_bytes()], [total, peak + 4096]);
    let sum: u64 = MemoryGroup::ALL.iter().map(|&group| ledger.bytes(group)).sum();
    assert_eq!(sum, total);
}

/// Returns the logits after a prefill in chunks and after single tokens, as bits.
fn logits(engine: &Engine) -> Vec<u32> {
    let tokens: Vec<u32> = (0..40).map(|i| i * 13 % 2048).collect();
    let mut session = engine.session();
    let mut all: Vec<f32> = session.advance(&tokens).unwrap().to_vec();
    for token in [5, 700, 2047] {
        all.extend(session.advance(&[token]).unwrap());
    }
    all.into_iter().map(f32::to_bits).collect()
}

#[test]
fn tensors_split_over_several_bindings_give_the_same_bits() {
    for (dtype, binding) in [(DType::F16, 200 << 10), (DType::F32, 400 << 10)] {
        let options = ModelOptions { dtype, prefill_chunk: 16, ..ModelOptions::default() };
        let engine = |max_binding_bytes| {
            let gpu = GpuOptions { max_binding_bytes, ..files::gpu() };
            Engine::builder().gpu(gpu).options(options.clone()).build().unwrap()
        };
        // The embedding has 2048 rows of 384 (768) bytes: 4 pieces, the last one shorter.
        // The MLP's matrices and the KV pool are split as well.
        let whole = logits(&engine(None));
        let split = logits(&engine(Some(binding)));
        assert_eq!(whole.len(), 4 * 2048);
        let wrong = whole.iter().zip(&split).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "{dtype}: {wrong} of {} logits differ", whole.len());
    }
}

#[test]
fn a_position_embedding_beyond_one_binding_is_an_error() {
    // 512 rows of 384 bytes are 192 KiB.
    let gpu = GpuOptions { max_binding_bytes: Some(191 << 10), ..files::gpu() };
    match Engine::builder().gpu(gpu).build() {
        Err(Error::Limits(message)) => assert!(message.contains("n_positions = 512"), "{message}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("was loaded"),
    }
}
