//! What `wgpt bench` measures: typed results, nothing printed.

mod model;
mod statistics;

pub use model::{ModelBench, ModelBenchProgress, ModelTest, run_model_test};
pub use statistics::{mean, standard_deviation};
