//! Loading a model holds no copy of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use wgpt::internals::model::random;
use wgpt::{DType, Engine, ModelFiles, ModelOptions};

use crate::support::random_gpt2::RandomGpt2;
use crate::support::{files, open_gpu};
use crate::{MIB, alone, peak_bytes};

/// Loads `dir` as f16 and as f32; neither may grow the heap by more than `bound` bytes.
fn load_within(dir: &Path, file_bytes: usize, bound: usize) {
    assert!(bound < file_bytes / 2, "a bound that a whole copy in f16 would meet proves nothing");
    for dtype in [DType::F16, DType::F32] {
        let options = ModelOptions { dtype, ..ModelOptions::default() };
        let (engine, peak) = peak_bytes(|| files::engine(dir).options(options).build().unwrap());
        println!("{dtype}: the heap grew by {:.1} MiB at most", peak as f64 / MIB as f64);
        assert!(peak > MIB, "{peak} bytes: the counter does not see the loader's own block");
        assert!(peak <= bound, "{dtype}: the heap grew by {peak} bytes, more than {bound}");
        // The loaded model runs.
        assert_eq!(engine.session().advance(&[1, 2, 3]).unwrap().len(), engine.vocab_size());
    }
}

#[test]
fn loading_holds_no_copy_of_the_model() {
    let _alone = alone();
    let file_bytes = 4 * 12_642_880;
    load_within(files::long_matrices_dir(), file_bytes, 20 * MIB);
}

/// Writes and reads half a gigabyte.
#[test]
#[ignore = "half a minute, optimized: make test-all"]
fn loading_gpt2_124m_grows_the_heap_by_at_most_64_mib() {
    let _alone = alone();
    let model = RandomGpt2::shape("gpt2").unwrap();
    let dir = files::write(&model);
    load_within(dir.path(), 4 * 124_439_808, 64 * MIB);
}

fn load_random(shape: &str, dtype: DType) -> Engine {
    let files = ModelFiles::random(random::shape(shape).unwrap(), 1).unwrap();
    let gpu = Arc::new(open_gpu(wgpt::GpuOptions::default()));
    let options = ModelOptions { dtype, ..ModelOptions::default() };
    Engine::load(files, gpu, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn random_weights_are_never_in_memory_all_at_once() {
    let _alone = alone();
    // 25 MB on the GPU in f16, like long_matrices.
    let shape = "n_layer=1,n_embd=640,n_head=10,vocab_size=12007,n_positions=64";
    for dtype in [DType::F16, DType::F32] {
        let (engine, peak) = peak_bytes(|| load_random(shape, dtype));
        assert!(engine.files().checkpoint().total_bytes() > 50_000_000);
        assert!(peak <= 20 << 20, "{dtype}: the heap grew by {peak} bytes");
        assert_eq!(engine.session().advance(&[1, 2, 3]).unwrap().len(), 12_007);
    }
}
