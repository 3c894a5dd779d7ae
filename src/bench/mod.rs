//! What `wgpt bench` measures: typed results, nothing printed.

mod host;
mod model;
mod statistics;

pub use host::peak_host_bytes;
pub use model::{ModelBench, ModelBenchProgress, ModelTest, run_model_test};
pub use statistics::{mean, standard_deviation};
