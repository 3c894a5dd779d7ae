//! A profile as a Chrome trace, which Perfetto (<https://ui.perfetto.dev>) and
//! chrome://tracing open. The format is the JSON object form of the Chromium project's
//! "Trace Event Format".

use serde_json::{Value, json};
use wgpt::Error;
use wgpt::internals::bench::{Profile, StepProfile};

use wgpt::files::NewFile;

/// Returns the kernel of a variant's label, such as `gemv` of `gemv[workgroup,f16]`.
pub fn kernel_name(variant: &str) -> &str {
    variant.split_once('[').map_or(variant, |(kernel, _)| kernel)
}

/// Writes the trace of a profile and renames the file to its final name.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn write(mut file: NewFile, model: &str, device: &str, profile: &Profile) -> Result<(), Error> {
    file.write(trace(model, device, profile).to_string().as_bytes())?;
    file.finish()
}

fn trace(model: &str, device: &str, profile: &Profile) -> Value {
    let name = format!("wgpt {model}, {device}");
    let mut events = vec![json!({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": name}})];
    for (thread, step) in [&profile.prefill, &profile.decode].into_iter().enumerate() {
        add(&mut events, thread + 1, step);
    }
    json!({
        "displayTimeUnit": "ns",
        "otherData": {"model": model, "device": device, "clock": profile.clock},
        "traceEvents": events,
    })
}

/// Adds one row of the trace: a step's dispatches laid end to end, in microseconds.
fn add(events: &mut Vec<Value>, thread: usize, step: &StepProfile) {
    let name = format!("{} of {} at {}", step.name, step.n_tokens, step.position);
    events.push(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": thread, "args": {"name": name}}));
    let mut begin_ns = 0;
    for (i, dispatch) in step.dispatches.iter().enumerate() {
        events.push(json!({
            "ph": "X",
            "name": kernel_name(&dispatch.label),
            "cat": step.name,
            "pid": 1,
            "tid": thread,
            "ts": begin_ns as f64 / 1e3,
            "dur": dispatch.duration_ns as f64 / 1e3,
            "args": {"dispatch": i, "variant": dispatch.label, "workgroups": dispatch.workgroups},
        }));
        begin_ns += dispatch.duration_ns;
    }
}
