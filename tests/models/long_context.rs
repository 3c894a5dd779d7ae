//! Contexts of more than 8,192 positions: the same logits as the naive model's, within
//! the planned memory.

use std::ops::ControlFlow;
use std::sync::Arc;

use wgpt::{DType, Engine, GpuOptions, ModelFiles, ModelOptions};

use crate::support::reference_model::ReferenceModel;
use crate::support::{self};

/// Rotary scaling as in Llama 3; four query heads share one head of k and v.
const GOLDEN: &str = "llama/llama3";
const N_CTX: usize = 8208;
/// The number of tokens at the end that are decoded.
const N_DECODED: usize = 5;

#[test]
fn a_context_beyond_8192_equals_the_naive_model() {
    let gpu = Arc::new(support::open_gpu(GpuOptions::default()));
    let dir = support::lengthened(GOLDEN, N_CTX);
    let options = ModelOptions {
        n_ctx: Some(N_CTX),
        dtype: DType::F32,
        kv_dtype: DType::F32,
        ..ModelOptions::default()
    };
    let files = Arc::new(ModelFiles::open(dir.path()).unwrap());
    let engine =
        Engine::load(Arc::clone(&files), Arc::clone(&gpu), &options, &mut |_| ControlFlow::Continue(()))
            .unwrap();
    let tokens: Vec<u32> = (0..N_CTX as u32).map(|i| (i * i * 7 + i * 31 + 11) % 997).collect();
    // The naive model takes as long as the engine does here.
    let naive = std::thread::spawn({
        let (files, tokens) = (Arc::clone(&files), tokens.clone());
        move || {
            ReferenceModel::new(files.config(), files.checkpoint(), DType::F32, DType::F32).logits(&tokens)
        }
    });

    let mut session = engine.session();
    let (prompt, decoded) = tokens.split_at(N_CTX - N_DECODED);
    let mut found = vec![session.advance(prompt).unwrap().to_vec()];
    for &token in decoded {
        found.push(session.advance(&[token]).unwrap().to_vec());
    }
    let expected = naive.join().unwrap();
    let expected = expected.chunks_exact(engine.vocab_size()).skip(N_CTX - N_DECODED - 1);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let errors = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
        let largest = errors.fold(0.0, f32::max);
        assert!(largest < 2e-4, "{largest:e} after the prompt's last token and {i} more");
    }
    let full = session.advance(&[1]).unwrap_err().to_string();
    assert!(full.contains("8208"), "{full}");

    let planned = engine.memory_plan().total_bytes();
    let taken = gpu.ledger().total_bytes();
    assert!(taken <= planned, "{taken} bytes of {planned} that were planned");
}
