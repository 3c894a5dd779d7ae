//! The measurements of `wgpt bench` and `wgpt profile`. They return typed results and print
//! nothing.

mod attends;
mod batch;
mod host;
mod kernels;
mod model;
mod probes;
mod profile;
mod quick;
mod record;
mod roofline;
mod shapes;
mod statistics;
mod timing;

pub use attends::Attends;
pub use host::{Machine, peak_host_bytes};
pub use kernels::{Cache, Candidate, KernelBench, KernelFigures, KernelOptions, KernelRow, Measured};
pub use model::{ModelBench, ModelBenchProgress, ModelTest, run_model_test};
pub use profile::{KernelTime, Profile, StepProfile, profile, profile_tokens};
pub use quick::{QuickProbes, quick_probes, quick_rate};
pub use record::{KernelRecord, RecordHeader, utc};
pub use roofline::{Bound, LatencyRow, ProbeRow, Roofline, net_ns};
pub use shapes::{MODELS, OPS, Subject};
pub use statistics::{Spread, mean, quantile, standard_deviation};
pub use timing::{Budget, Clock, Recorded, Stopwatch};
