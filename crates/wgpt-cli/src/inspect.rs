//! `wgpt inspect`: a model and its memory plan, without loading the model.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Serialize, Serializer};
use wgpt::internals::engine::{Selection, check_budget, prepare};
use wgpt::internals::model::{Decoder, check_tensors};
use wgpt::{DType, DevicePreview, Error, ErrorKind, Fit, MemoryGroup, MemoryPlan, ModelFiles, ModelOptions};

use super::exit::Outcome;
use super::model_args::ModelArgs;
use super::output::{bytes, count, labelled, note_message};
use super::results::ReportArgs;
use super::run_info::VERSION;

/// Show a model's architecture and the exact GPU memory that it needs
///
/// Checks the names and shapes of all tensors, but reads no tensor data and allocates
/// nothing. Without an adapter, the plan is for a device with default limits and no
/// optional features. If the model does not fit --memory-budget, the plan is printed and
/// the exit code is 4.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt inspect
  wgpt inspect -m ./gpt2 --ctx-size 512
  wgpt inspect -m ./gpt2 --dtype f32 --json
  wgpt inspect -m ./gpt2 --memory-budget 300MiB     whether it fits, and which options would
  wgpt inspect --random gpt2-xl                     random weights, without a file")]
pub struct Args {
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    config: Decoder,
    /// The model's architecture in words, from the embedding to the head.
    #[serde(serialize_with = "as_map")]
    block: Vec<(&'static str, String)>,
    parameters: u64,
    /// The file's tensors by element type, including tensors that the model ignores.
    /// Empty for random weights.
    file_dtypes: BTreeMap<String, FileDType>,
    file_bytes: u64,
    dtype: DType,
    kv_dtype: DType,
    n_ctx: usize,
    prefill_chunk: usize,
    weights_bytes: u64,
    kv_bytes_per_token: u64,
    plan: Plan,
    /// `null` without --memory-budget.
    budget: Option<Budget>,
    device: Device,
    /// The implementation of each operation that would run.
    variants: BTreeMap<&'static str, &'static str>,
    /// Whether those implementations were tuned for the model on this device.
    tuned: bool,
    version: &'static str,
}

#[derive(Default, Serialize)]
struct FileDType {
    tensors: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Plan {
    total_bytes: u64,
    groups: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    plan: MemoryPlan,
}

/// The plan against --memory-budget.
#[derive(Serialize)]
struct Budget {
    bytes: u64,
    fits: bool,
    /// If the plan does not fit: changes, each of which would make it fit.
    would_fit: Vec<Fit>,
}

impl Budget {
    /// Returns the budget if there is one, and the error of a load that exceeds it.
    fn new(
        config: &Decoder,
        options: &ModelOptions,
        device: &DevicePreview,
        plan: &MemoryPlan,
    ) -> Result<Option<(Self, Option<Error>)>, Error> {
        let Some(bytes) = options.memory_budget else { return Ok(None) };
        let budget = |fits, would_fit| Budget { bytes, fits, would_fit };
        match check_budget(config, options, device, plan.clone()) {
            Err(Error::Budget(over)) => {
                Ok(Some((budget(false, over.fits.clone()), Some(Error::Budget(over)))))
            }
            result => result.map(|()| Some((budget(true, Vec::new()), None))),
        }
    }
}

/// The device that the plan is for.
#[derive(Serialize)]
struct Device {
    /// `null` if there is no adapter.
    name: Option<String>,
    strategy: &'static str,
    max_binding_bytes: u64,
}

/// Runs `wgpt inspect`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = args.model.open_files()?;
    check_tensors(files.config(), files.checkpoint())?;
    let (report, over) = report(args, &files)?;
    let mut sink = args.report.open(Some(&files), [])?;
    if args.report.form.json {
        sink.print_json(&report)?;
    } else {
        sink.print(&text(&report))?;
    }
    sink.finish()?;
    // The plan is printed in both cases, but the exit code shows that the model does not fit.
    over.map_or(Ok(Outcome::Done), |over| Err(over.into()))
}

/// Returns the report, and the error with which a load would end if the budget is too small.
fn report(args: &Args, files: &ModelFiles) -> Result<(Report, Option<Error>), Error> {
    let options = args.model.gpu_options();
    let preview = match DevicePreview::of(&options) {
        // A device that the user named must exist.
        Err(error) if error.kind() == ErrorKind::NoAdapter && options.device.is_none() => {
            DevicePreview::floor(&options)
        }
        preview => preview?,
    };
    let config = files.config();
    let model_options = args.model.model_options();
    let (Selection { choices, tuned, warning }, dims) = prepare(config, &model_options, &preview)?;
    if let Some(warning) = warning {
        note_message(&format!("warning: {warning}"));
    }
    let plan = dims.plan();
    let (budget, over) = Budget::new(config, &model_options, &preview, &plan)?.unzip();
    let report = Report {
        model: files.name().to_owned(),
        config: config.clone(),
        block: config.describe(),
        parameters: config.n_parameters(),
        file_dtypes: file_dtypes(files),
        file_bytes: if files.checkpoint().is_synthetic() { 0 } else { files.checkpoint().total_bytes() },
        dtype: args.model.run.dtype,
        kv_dtype: args.model.run.kv_dtype,
        n_ctx: dims.n_ctx,
        prefill_chunk: dims.chunk,
        weights_bytes: plan.group_bytes(MemoryGroup::Weights),
        kv_bytes_per_token: dims.kv_bytes_per_token(),
        plan: Plan {
            total_bytes: plan.total_bytes(),
            groups: MemoryGroup::ALL.map(|group| (group.name(), plan.group_bytes(group))).into(),
            plan,
        },
        budget,
        device: Device {
            name: preview.adapter().map(|adapter| adapter.name.clone()),
            strategy: preview.capabilities().strategy.name(),
            max_binding_bytes: preview.max_binding_bytes(),
        },
        variants: choices.names(),
        tuned,
        version: VERSION,
    };
    Ok((report, over.flatten()))
}

/// Serializes pairs as one JSON object, in order.
fn as_map<S: Serializer>(pairs: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(label, text)| (label, text)))
}

fn file_dtypes(files: &ModelFiles) -> BTreeMap<String, FileDType> {
    let mut dtypes: BTreeMap<String, FileDType> = BTreeMap::new();
    if files.checkpoint().is_synthetic() {
        return dtypes;
    }
    for tensor in files.checkpoint().tensors() {
        let entry = dtypes.entry(tensor.dtype.to_string()).or_default();
        entry.tensors += 1;
        entry.bytes += tensor.len_bytes();
    }
    dtypes
}

fn text(report: &Report) -> String {
    let c = &report.config;
    let dtypes: Vec<_> = report
        .file_dtypes
        .iter()
        .map(|(dtype, found)| format!("{} {dtype} tensors, {}", found.tensors, bytes(found.bytes)))
        .collect();
    let device = match &report.device.name {
        Some(name) => name.clone(),
        None => "no adapter found: planned for a device with default limits".to_owned(),
    };
    let variants: Vec<_> = report.variants.iter().map(|(op, name)| format!("{op}={name}")).collect();
    let variants = variants.join(" ");
    let mut labels = vec![
        ("model", report.model.clone()),
        ("architecture", c.architecture.to_owned()),
        ("parameters", format!("{} ({})", count(report.parameters), report.parameters)),
        ("layers", c.n_layer.to_string()),
    ];
    labels.extend(report.block.iter().cloned());
    let run = [
        ("file", if dtypes.is_empty() { "none: random weights".to_owned() } else { dtypes.join("; ") }),
        ("on the GPU", format!("weights {}, KV cache {}", report.dtype, report.kv_dtype)),
        ("KV cache", format!("{} per token", bytes(report.kv_bytes_per_token))),
        ("context", format!("{} tokens, prefill in chunks of {}", report.n_ctx, report.prefill_chunk)),
        ("device", device),
        ("kernels", format!("{}: {}", if report.tuned { "tuned" } else { "untuned" }, variants)),
    ];
    labels.extend(run);
    let mut text = labelled(&labels, 0);
    text.push_str("\nGPU memory\n");
    let groups = MemoryGroup::ALL.map(MemoryGroup::name);
    let mut rows: Vec<_> =
        groups.iter().map(|group| (*group, report.plan.groups.get(group).copied().unwrap_or(0))).collect();
    rows.push(("total", report.plan.total_bytes));
    for (label, n) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {label:<12} {n:>14} bytes {:>12}", bytes(n));
    }
    if let Some(budget) = &report.budget {
        let verdict = if budget.fits { "fits" } else { "does not fit" };
        let _ = writeln!(text, "  {verdict} the budget of {} bytes", budget.bytes);
    }
    text
}
