//! Multiple-choice tasks and LAMBADA: whether the right ending is the most probable one.
//!
//! A [`Dataset`] contains questions, formatted as prompts by a [`Convention`].
//! [`evaluate`] asks a model these questions. Prompts and tokens are identical to those
//! of lm-evaluation-harness 0.4 (`lm_eval/tasks`, `lm_eval/api/model.py`) or of llm.c
//! (`dev/data/hellaswag.py`, `mmlu.py`).
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//! use wgpt::Engine;
//! use wgpt_eval::tasks::{DataOptions, Dataset, Task, TaskOptions, evaluate};
//!
//! # fn main() -> wgpt::Result<()> {
//! let engine = Engine::builder().model("path/to/gpt2").build()?;
//! let data = Dataset::read(Task::Hellaswag, Path::new("hellaswag_val.jsonl"), &DataOptions::default())?;
//! let options = TaskOptions { limit: Some(500), ..TaskOptions::default() };
//! let report = evaluate(&engine, &data, &options, &mut |_| ControlFlow::Continue(()))?;
//! println!("{:.4}", report.figures.acc.value);
//! # Ok(())
//! # }
//! ```

mod choices;
mod dataset;
mod encode;
mod evaluate;
mod file;
mod hellaswag;
mod lambada;
mod mmlu;
mod python;
mod question;
mod report;
mod results;
mod resume;
mod sample;
mod scoring;
mod statistics;
mod subjects;

pub use dataset::{DataOptions, Dataset, Task};
pub use evaluate::{TaskOptions, TaskProgress, evaluate};
pub use question::{Convention, Question, Subject};
pub use report::{Cost, Gain, Sharing, TaskReport};
pub use results::{Answer, Figures, GroupFigures, SubjectFigures};
pub use statistics::Estimate;
pub use subjects::Group;
