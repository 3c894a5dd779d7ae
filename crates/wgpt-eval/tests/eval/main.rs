//! Evaluation: tasks with known answers (prompts against the conventions' wording, scores
//! against transformers, bad data, resumed runs), perplexity, comparisons, curves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_data;
mod perplexity;
mod prompts;
#[cfg(feature = "internals")]
mod random;
mod resume;
mod scores;
#[cfg(feature = "internals")]
mod several_models;
#[path = "../../../../tests/support/mod.rs"]
mod support;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use wgpt::{DType, Engine, Gpu, GpuOptions, ModelFiles, ModelOptions};
use wgpt_eval::tasks::{Convention, DataOptions, Dataset, Task, TaskOptions, TaskReport, evaluate};

use support::models::repository;

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(support::open_gpu(GpuOptions::default())));

/// The demo model in f32.
static DEMO: LazyLock<Engine> = LazyLock::new(|| load(ModelFiles::demo().unwrap()));

fn load(files: ModelFiles) -> Engine {
    let options = ModelOptions { dtype: DType::F32, kv_dtype: DType::F32, ..ModelOptions::default() };
    Engine::load(files, Arc::clone(&GPU), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Returns the path of a file of `tests/golden/tasks`.
fn golden(name: &str) -> PathBuf {
    repository("tests/golden/tasks").join(name)
}

/// The source of an entry of prompts.json or scores.json.
#[derive(Debug, Deserialize)]
struct Source {
    task: Task,
    data: String,
    convention: Convention,
    shots: usize,
    shots_file: Option<String>,
}

impl Source {
    fn read(&self) -> Dataset {
        let options = DataOptions {
            convention: self.convention,
            shots: self.shots,
            shots_file: self.shots_file.as_deref().map(golden),
        };
        Dataset::read(self.task, &golden(&self.data), &options).unwrap()
    }
}

/// Returns data in lm-eval's wording without shots.
fn plain(task: Task, data: &str) -> Dataset {
    Dataset::read(task, &golden(data), &DataOptions::default()).unwrap()
}

fn run(engine: &Engine, dataset: &Dataset, options: &TaskOptions) -> TaskReport {
    evaluate(engine, dataset, options, &mut |_| ControlFlow::Continue(())).unwrap()
}
