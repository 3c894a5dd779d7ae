//! An untrained model guesses.

use std::fs;

use safetensors::tensor::Dtype;
use wgpt::ModelFiles;
use wgpt_eval::tasks::{Task, TaskOptions};

use crate::support::models::repository;
use crate::support::random_gpt2::RandomGpt2;
use crate::{load, plain, run};

#[test]
fn random_weights_score_near_a_quarter() {
    let tasks = [plain(Task::Hellaswag, "hellaswag-200.txt"), plain(Task::Mmlu, "mmlu")];
    for seed in 0..2 {
        // The demo model's vocabulary and context.
        let dir = tempfile::tempdir().unwrap();
        let model = RandomGpt2 {
            n_layer: 2,
            n_embd: 32,
            n_head: 2,
            vocab_size: 2048,
            n_positions: 512,
            dtype: Dtype::F32,
            seed,
        };
        model.write(dir.path()).unwrap();
        fs::copy(repository("weights/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
        let engine = load(ModelFiles::open(dir.path()).unwrap());
        for dataset in &tasks {
            let report = run(&engine, dataset, &TaskOptions::default());
            assert_eq!(report.figures.n, 200);
            // For 200 guesses at 1 in 4.
            let stderr = (0.25_f64 * 0.75 / 200.0).sqrt();
            for estimate in [Some(report.figures.acc), report.figures.acc_norm].into_iter().flatten() {
                let off = (estimate.value - 0.25) / stderr;
                assert!(off.abs() < 4.0, "seed {seed}, {}: {estimate:?}", dataset.task);
            }
        }
    }
}
