//! `wgpt profile`: time per kernel.

use std::path::PathBuf;

use serde::Serialize;
use wgpt::internals::bench::{
    Clock, KernelTime, Profile, RecordHeader, StepProfile, profile, profile_tokens,
};
use wgpt::{DType, Engine, Error};

use super::exit::Outcome;
use super::model_args::ModelArgs;
use super::new_file::check_distinct;
use super::output::{bytes, duration, note, plural};
use super::results::{Format, Sink, TableArgs};
use super::{interrupt, trace};
use wgpt::files::NewFile;

/// Show the time that each kernel takes in one prefill and one decode step
///
/// Runs the prompt, then one token after it, each a few times, and shows medians. Each
/// dispatch runs in its own pass between GPU timestamps. On a device without timestamps,
/// each dispatch runs in its own submit, timed by the host's clock; that time includes
/// the driver's work. The kernel times therefore add up to more than a normal step takes,
/// and the time of a normal step is shown as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt profile -p \"Once upon a time\"
  wgpt profile --random gpt2 --n-prompt 128 --trace trace.json   open it in ui.perfetto.dev
  wgpt profile -m ./gpt2 --n-prompt 512 --json                    decodes at a depth of 512")]
pub struct Args {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "n_prompt")]
    prompt: Option<String>,
    /// Tokens of a random prompt instead [default: 128, fewer in a shorter context]
    #[arg(short_alias = 'n', long, value_name = "N")]
    n_prompt: Option<usize>,
    /// Timed repetitions of each measurement
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repetitions: u32,
    /// Also write a Chrome trace of both steps, dispatch by dispatch, to FILE
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Tokens of the random prompt if the user gives no number.
const DEFAULT_PROMPT: usize = 128;

/// Runs `wgpt profile`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let (format, output) = args.table.resolve(None)?;
    let files = args.model.open_files()?;
    let text = match &args.prompt {
        Some(text) => Some(files.tokenizer()?.encode(text)?),
        None => None,
    };
    if let Some(path) = args.trace.as_ref().filter(|path| files.contains(path)) {
        let message = format!("--trace {}: this is a file of the model: name another file", path.display());
        return Err(Error::Input(message).into());
    }
    // Fails before the slow start of the GPU if the file cannot be written.
    check_distinct(&[("--trace", args.trace.as_deref()), ("--output", output)])?;
    let trace = args.trace.as_deref().map(NewFile::create).transpose()?;
    let mut sink = Sink::open(output, Some(&files), [])?;
    let engine = args.model.load(files, &cancel)?;
    let n_default = DEFAULT_PROMPT.min(engine.n_ctx().saturating_sub(1)).max(1);
    let prompt = text.unwrap_or_else(|| {
        // `profile` refuses a prompt that fills the context, so a longer one need not be
        // built.
        profile_tokens(&engine, args.n_prompt.unwrap_or(n_default).min(engine.n_ctx()))
    });
    let profile = profile(&engine, &prompt, args.repetitions as usize, &cancel)?;
    if profile.clock == Clock::Wall {
        note("note: the device has no timestamps: each dispatch was timed by the host in its own submit");
    }
    if let (Some(file), Some(path)) = (trace, &args.trace) {
        trace::write(file, engine.files().name(), &engine.gpu().report().name, &profile)?;
        note(&format!("wrote {}", path.display()));
    }
    match format {
        Format::Json | Format::JsonLines => sink.print_json(&Report::new(&engine, &profile))?,
        Format::Csv => sink.print(&csv(&profile)?)?,
        Format::Markdown => sink.print(&markdown(&engine, &profile))?,
    }
    sink.finish()?;
    Ok(Outcome::Done)
}

/// A line of the tables.
#[derive(Serialize)]
struct Row {
    step: &'static str,
    kernel: String,
    /// Formatted as `64x2x1`.
    workgroups: String,
    calls: usize,
    total_us: f64,
    percent: f64,
    variant: String,
}

fn rows(step: &StepProfile) -> Vec<Row> {
    // A coarse clock may measure zero.
    let all = step.kernels_ns().max(1) as f64;
    let row = |kernel: KernelTime| Row {
        step: step.name,
        kernel: trace::kernel_name(&kernel.variant).to_owned(),
        workgroups: kernel.workgroups.map(|n| n.to_string()).join("x"),
        calls: kernel.calls,
        total_us: kernel.total_ns as f64 / 1e3,
        percent: 100.0 * kernel.total_ns as f64 / all,
        variant: kernel.variant,
    };
    step.by_kernel().into_iter().map(row).collect()
}

/// Returns the decode step's bandwidth: bytes of weights over its kernel time, in GB/s.
fn weights_rate(profile: &Profile) -> f64 {
    profile.weights_bytes as f64 / profile.decode.kernels_ns().max(1) as f64
}

fn markdown(engine: &Engine, profile: &Profile) -> String {
    let mut text = String::new();
    let clock = match profile.clock {
        Clock::Gpu => "GPU timestamps, one pass per dispatch",
        Clock::Wall => "the host's clock, one submit per dispatch",
    };
    text.push_str(&format!(
        "{} {} on {}; times from {clock}\n",
        engine.files().name(),
        engine.options().dtype,
        engine.gpu().report().name
    ));
    for step in [&profile.prefill, &profile.decode] {
        let rows = rows(step);
        let width = rows.iter().map(|row| row.kernel.len()).max().unwrap_or(0).max("kernel".len());
        let tokens = plural(step.n_tokens, "token");
        text.push_str(&format!("\n{}: {tokens} at {}\n\n", step.name, step.position));
        text.push_str(&format!(
            "| {:<width$} | {:>12} | {:>5} | {:>12} | {:>5} |\n",
            "kernel", "workgroups", "calls", "us", "%"
        ));
        let dashes = "-".repeat(width);
        text.push_str(&format!("| {dashes} | {:->11}: | {:->4}: | {:->11}: | {:->4}: |\n", "", "", "", ""));
        for row in &rows {
            text.push_str(&format!(
                "| {:<width$} | {:>12} | {:>5} | {:>12.1} | {:>5.1} |\n",
                row.kernel, row.workgroups, row.calls, row.total_us, row.percent
            ));
        }
        text.push_str(&format!(
            "\n{} dispatches take {}, a normal step takes {}\n",
            step.dispatches.len(),
            duration(step.kernels_ns() as f64 / 1e9),
            duration(step.step_ns as f64 / 1e9)
        ));
    }
    text + &format!(
        "the decode step's kernels read {} of weights at {:.2} GB/s\n",
        bytes(profile.weights_bytes),
        weights_rate(profile)
    )
}

fn csv(profile: &Profile) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for step in [&profile.prefill, &profile.decode] {
        rows(step).iter().try_for_each(|row| writer.serialize(row))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: RecordHeader,
    model: String,
    model_n_params: u64,
    dtype: DType,
    kv_dtype: DType,
    deterministic: bool,
    n_ctx: usize,
    prefill_chunk: usize,
    /// The clock: gpu or wall.
    clock: Clock,
    weights_bytes: u64,
    decode_weights_gb_per_s: f64,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    n_tokens: usize,
    position: usize,
    n_dispatches: usize,
    kernels_ns: u64,
    step_ns: u64,
    kernels: Vec<Row>,
}

impl Report {
    fn new(engine: &Engine, profile: &Profile) -> Self {
        let step = |step: &StepProfile| Step {
            step: step.name,
            n_tokens: step.n_tokens,
            position: step.position,
            n_dispatches: step.dispatches.len(),
            kernels_ns: step.kernels_ns(),
            step_ns: step.step_ns,
            kernels: rows(step),
        };
        let options = engine.options();
        Report {
            header: RecordHeader::new(&engine.gpu()),
            model: engine.files().name().to_owned(),
            model_n_params: engine.files().config().n_parameters(),
            dtype: options.dtype,
            kv_dtype: options.kv_dtype,
            deterministic: options.deterministic,
            n_ctx: engine.n_ctx(),
            prefill_chunk: options.prefill_chunk,
            clock: profile.clock,
            weights_bytes: profile.weights_bytes,
            decode_weights_gb_per_s: weights_rate(profile),
            steps: vec![step(&profile.prefill), step(&profile.decode)],
        }
    }
}
