//! `wgpt tune`: the fastest implementation of each operation on this device.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wgpt::internals::engine::tune_model;
use wgpt::internals::tune::{Budget, OpTuning, Progress, cache};
use wgpt::{Engine, Error, Gpu, Tuning};

use super::exit::Outcome;
use super::interrupt;
use super::model_args::{ModelArgs, notices};
use super::output::{duration, note, note_message};
use super::progress::Bar;
use super::results::ReportArgs;

/// Find the fastest kernels for a model on this device and store the choice
///
/// First checks every implementation that the device can run against the reference at
/// small sizes, and drops implementations with wrong results. Then times the others in
/// turn at the model's sizes. An implementation replaces the default if its median is
/// better by more than 3 % and their quartiles do not overlap. The choice is stored in
/// the cache directory. Models of the same shape and types use it from then on, unless
/// --variant overrides it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt tune
  wgpt tune -m ./gpt2 --full
  wgpt tune --random gpt2-xl --seconds 10
  wgpt tune --cache-dir ./cache --json")]
pub struct Args {
    /// Duration of the search in seconds [default: 2; 60 with --full]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Search longer: take more samples of each candidate, and on software adapters also
    /// time candidates known to be slow there
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Parses a number of seconds.
pub fn seconds(s: &str) -> Result<Duration, String> {
    let expected = || "expected a number of seconds, 0 or more".to_owned();
    let seconds = s.parse::<f64>().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

#[derive(Serialize)]
struct Report {
    device: String,
    /// The clock: gpu or wall.
    clock: &'static str,
    complete: bool,
    operations: Vec<Operation>,
    /// The candidates that failed their check, and how.
    dropped: Vec<String>,
}

#[derive(Serialize)]
struct Operation {
    op: &'static str,
    default: &'static str,
    chosen: &'static str,
    /// Time of the default divided by the time of the choice; `null` unless both were
    /// timed.
    gain: Option<f64>,
    complete: bool,
    timed: Vec<Candidate>,
}

#[derive(Serialize)]
struct Candidate {
    variant: &'static str,
    median_ns: f64,
    n_samples: usize,
}

/// Runs `wgpt tune`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    if args.model.run.deterministic || !args.model.run.kernels.variant.is_empty() {
        let message = "tune chooses among all variants, and deterministic models use no tuned variants: \
                       leave out --variant and --deterministic";
        return Err(Error::Input(message.to_owned()).into());
    }
    let files = args.model.open_files()?;
    let mut sink = args.report.open(Some(&files), [])?;
    let gpu = Arc::new(Gpu::open(&args.model.gpu_options())?);
    for line in notices(gpu.report()) {
        note(&line);
    }
    let usual = if args.full { Budget::FULL } else { Budget::USUAL };
    let budget = Budget { time: args.seconds.unwrap_or(usual.time), full: args.full };
    // Fails before the search if the choice cannot be saved.
    match &gpu.options().cache_dir {
        Some(dir) => cache::check_writable(dir)?,
        None => note("note: there is no cache directory: the choice is shown, but not stored"),
    }
    let options = args.model.model_options();
    let tuning = {
        let mut bar = TuneBar::new();
        tune_model(&gpu, &files, &options, budget, &mut |p| bar.update(p), &cancel)?
    };
    warn(&gpu);
    if args.report.form.json {
        sink.print_json(&report(&gpu, &tuning))?;
    } else {
        sink.print(&table(&tuning))?;
        if !tuning.is_complete() {
            note("note: the time ran out before all candidates were timed: give more with --seconds");
        }
    }
    sink.finish()?;
    Ok(Outcome::Done)
}

/// Prints the device's warnings.
pub fn warn(gpu: &Gpu) {
    for warning in gpu.take_warnings() {
        note_message(&format!("warning: {warning}"));
    }
}

/// Tunes if the cache has no choice for the model. The text is complete then, so the user
/// does not wait for it. Ctrl-C ends the program at once; a Ctrl-C from just before the
/// search ends only the search.
pub fn after_a_text(engine: &Engine, requested: Option<Duration>) {
    let gpu = engine.gpu();
    // On software adapters, the default order of the candidates already comes from
    // measurements, and compiling the candidates takes longer than the tuning budget.
    let usual = if gpu.report().is_software() { Duration::ZERO } else { Budget::USUAL.time };
    let time = requested.unwrap_or(usual);
    let Some(dir) = &gpu.options().cache_dir else { return };
    if time.is_zero() || engine.is_tuned() || engine.options().deterministic {
        return;
    }
    if let Err(error) = cache::check_writable(dir) {
        return note_message(&format!("warning: kernels are not tuned: {error}"));
    }
    let budget = Budget { time, full: false };
    let cancel = interrupt::flag();
    let result = interrupt::blocked(|| {
        let mut bar = TuneBar::new();
        engine.tune(budget, &mut |progress| bar.update(progress), &cancel)
    });
    match result {
        Ok(_) | Err(Error::Cancelled) => {}
        Err(error) => note_message(&format!("warning: kernels are not tuned: {error}")),
    }
    warn(&gpu);
}

/// A bar that shows the time spent.
struct TuneBar(Bar);

impl TuneBar {
    fn new() -> Self {
        TuneBar(Bar::new(1000, "tune     {wide_bar} {msg}"))
    }

    fn update(&mut self, progress: Progress) {
        self.0.set((progress.done * 1000.0) as u64, progress.candidate.to_string());
    }
}

/// Returns the times of the default and of the choice.
fn times(op: &OpTuning) -> [String; 2] {
    [op.default, op.chosen].map(|which| {
        let timed = op.timed.iter().find(|timed| timed.candidate == which);
        timed.map_or_else(|| "-".to_owned(), |timed| duration(timed.median_ns / 1e9))
    })
}

fn table(tuning: &Tuning) -> String {
    let mut text = format!(
        "{:<18} {:<22} {:>11} {:<22} {:>11} {:>7}\n",
        "operation", "default", "time", "chosen", "time", "gain"
    );
    for op in &tuning.ops {
        let [default, chosen] = times(op);
        let gain = op.gain().map_or_else(|| "-".to_owned(), |gain| format!("{gain:.2}x"));
        text += &format!(
            "{:<18} {:<22} {default:>11} {:<22} {chosen:>11} {gain:>7}\n",
            op.op.name(),
            op.default.name(),
            op.chosen.name()
        );
    }
    text
}

fn report(gpu: &Gpu, tuning: &Tuning) -> Report {
    let operation = |op: &OpTuning| Operation {
        op: op.op.name(),
        default: op.default.name(),
        chosen: op.chosen.name(),
        gain: op.gain(),
        complete: op.complete,
        timed: op
            .timed
            .iter()
            .map(|t| Candidate {
                variant: t.candidate.name(),
                median_ns: t.median_ns,
                n_samples: t.n_samples,
            })
            .collect(),
    };
    Report {
        device: gpu.report().name.clone(),
        clock: if tuning.gpu_clock { "gpu" } else { "wall" },
        complete: tuning.is_complete(),
        operations: tuning.ops.iter().map(operation).collect(),
        dropped: tuning.dropped.iter().map(ToString::to_string).collect(),
    }
}
