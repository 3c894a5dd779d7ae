//! Random weights without a file: the same model as a checkpoint written from the same
//! seed, in less memory than a copy of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use safetensors::tensor::Dtype;
use wgpt::internals::model::random;
use wgpt::{DType, Engine, Gpu, ModelFiles, ModelOptions};

use crate::support::files;
use crate::support::random_gpt2::RandomGpt2;

fn load(shape: &str, seed: u64, dtype: DType) -> Engine {
    let files = ModelFiles::random(random::shape(shape).unwrap(), seed).unwrap();
    let gpu = Arc::new(Gpu::open(&files::gpu()).unwrap());
    let options = ModelOptions { dtype, ..ModelOptions::default() };
    Engine::load(files, gpu, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Returns the logits after a prefill and after a decoded token, as bits.
fn logits(engine: &Engine) -> Vec<u32> {
    let mut session = engine.session();
    let mut all = session.advance(&[1, 20, 300, 4]).unwrap().to_vec();
    all.extend(session.advance(&[5]).unwrap());
    all.into_iter().map(f32::to_bits).collect()
}

#[test]
fn random_weights_equal_a_checkpoint_of_the_same_seed() {
    let shape = "n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=32";
    for (dtype, file_dtype) in [(DType::F16, Dtype::F32), (DType::F16, Dtype::F16), (DType::F32, Dtype::F32)]
    {
        let direct = logits(&load(shape, 9, dtype));
        let written = RandomGpt2 {
            n_layer: 2,
            n_embd: 48,
            n_head: 3,
            vocab_size: 301,
            n_positions: 32,
            dtype: file_dtype,
            seed: 9,
        };
        let dir = files::write(&written);
        let options = ModelOptions { dtype, ..ModelOptions::default() };
        let read = logits(&files::engine(dir.path()).options(options).build().unwrap());
        assert_eq!(direct, read, "{dtype} from {file_dtype}");
        assert_eq!(direct, logits(&load(shape, 9, dtype)), "{dtype}: a second load");
        assert_ne!(direct, logits(&load(shape, 10, dtype)), "{dtype}: another seed");
    }
}
