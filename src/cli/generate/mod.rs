//! `wgpt generate`: text behind a prompt.

mod report;
mod text;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use wgpt::engine::{FinishReason, Generation, ModelFiles, Overflow, Piece};
use wgpt::kernels::BATCH_MAX;
use wgpt::{Engine, Error, GenerateOptions};

use super::atomic_file::AtomicFile;
use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::output::{OutputClosed, note, print_json};
use super::prompt::PromptArgs;
use super::sampling_args::SamplingArgs;
use super::tune;
use report::{Clock, Report};
use text::TextWriter;

/// Generate text behind a prompt
///
/// The text streams to stdout, a summary goes to stderr. Defaults are replaced
/// by the values of the model's generation_config.json, and these by flags.
/// Where the model has no tokenizer (with --tokens), ids are printed instead of
/// text, separated by spaces.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt generate -p \"Once upon a time\"
  wgpt generate -p \"The cat\" --temp 0 -n 50               the most likely text
  wgpt generate -m ./gpt2 --prompt-file story.txt -s 42   the same text each time
  wgpt generate -m ./gpt2 --prompt-file code.txt --temp 0 --prompt-lookup 5
  wgpt generate -p \"One day\" --save-session story.session
  wgpt generate -p \"\" --session story.session           goes on with it
  echo \"One day\" | wgpt generate - --stop \"The end\"
  wgpt generate -m ./gpt2 --tokens 15496,11 --output-format json --logprobs 5")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Goes on from a session that --save-session wrote: its text is not run again;
    /// the prompt, which may be empty, stands behind it
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// Keeps prompt and text with their keys and values in FILE; it may be that of
    /// --session
    #[arg(long, value_name = "FILE")]
    save_session: Option<PathBuf>,
    /// Time to find the fastest kernels behind the first text of a model, where
    /// none are kept for it yet; 0 for none [default: 2, on software adapters 0]
    #[arg(long, value_name = "N", env = "WGPT_TUNE_SECONDS", value_parser = tune::seconds)]
    tune_seconds: Option<Duration>,
    #[command(flatten)]
    model: ModelArgs,
}

/// When the text ends and how it is printed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Text")]
struct OutputArgs {
    /// Most tokens to generate; -1 for as many as the context holds [default: 256]
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(-1..))]
    max_new_tokens: Option<i64>,
    /// Ends the text where TEXT would occur, which is left out; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Goes on behind end-of-text tokens
    #[arg(long)]
    ignore_eos: bool,
    /// Ends the text after that many seconds, the prompt's included; what was
    /// generated is kept, the exit code is 124
    #[arg(long, value_name = "SECONDS", value_parser = tune::seconds)]
    timeout: Option<Duration>,
    /// What happens at the context's end: stop, or keep its newer half and go on
    #[arg(long, value_enum, default_value = "stop")]
    overflow: OverflowArg,
    /// Verifies drafts of up to N tokens a pass, copied from where the newest
    /// tokens occurred before: the same greedy text, sooner where it repeats
    /// itself. Needs --temp 0, no penalties, no bias, no --logprobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..BATCH_MAX as i64))]
    prompt_lookup: Option<u32>,
    /// Log-probability of each token and of the N likeliest: in JSON, or as a
    /// table on stderr
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    /// Prints the prompt in front of the text
    #[arg(long)]
    echo: bool,
    /// Text as it is made, or one JSON object at the end
    #[arg(long, value_enum, default_value = "text")]
    output_format: OutputFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowArg {
    Stop,
    Slide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

/// Tokens that are generated where neither flag nor model says how many.
const DEFAULT_MAX_NEW_TOKENS: usize = 256;

/// Runs the verb; `started` is the program's start.
pub fn run(args: &Args, started: Instant) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    // Everything that a user can get wrong comes before the wait for the GPU.
    let files = args.model.open_files()?;
    let prompt = args.prompt.tokens(&files)?;
    let sampling = args.sampling.resolve(files.generation_config());
    let options = GenerateOptions {
        sampling,
        max_new_tokens: max_new_tokens(args.output.max_new_tokens, &files, prompt.len())?,
        stop: args.output.stop.clone(),
        ignore_eos: args.output.ignore_eos,
        end_ids: Vec::new(),
        logprobs: args.output.logprobs,
        overflow: match args.output.overflow {
            OverflowArg::Stop => Overflow::Stop,
            OverflowArg::Slide => Overflow::Slide,
        },
        prompt_lookup: args.output.prompt_lookup.map(|n| n as usize),
        cancel: Some(cancel.clone()),
        timeout: args.output.timeout,
    };
    options.validate(files.config().vocab_size)?;
    check_sessions(args, &files)?;
    let engine = args.model.load(files, &cancel)?;
    let clock = Clock { started, loaded: Instant::now() };
    let session = args.session.as_ref().map_or_else(|| Ok(engine.session()), |path| engine.restore(path))?;
    let mut generation = session.generate(&prompt, options.clone())?;
    let ended = match args.output.output_format {
        OutputFormat::Text => run_text(args, &engine, &mut generation, clock),
        OutputFormat::Json => run_json(args, &engine, &mut generation, &options, clock),
    };
    // A reader that has enough ends the text; its session is wanted all the same.
    if ended.as_ref().is_err_and(|error| !error.is::<OutputClosed>()) {
        return ended.map(|_| Outcome::Done);
    }
    if let Some(path) = &args.save_session {
        generation.into_session()?.save(path)?;
    }
    let reason = ended?;
    if reason == Some(FinishReason::Timeout) {
        return Ok(Outcome::TimedOut);
    }
    if !interrupt::raised(&cancel) {
        tune::behind_a_text(&engine, args.tune_seconds);
    }
    Ok(if interrupt::raised(&cancel) { Outcome::Interrupted } else { Outcome::Done })
}

/// Whether the files of sessions can be read and written at all.
fn check_sessions(args: &Args, files: &ModelFiles) -> Result<(), Error> {
    if let Some(path) = &args.session {
        // Opened when the model is there: opening a pipe would wait for its writer.
        let found = path.metadata().map(drop);
        found.map_err(|source| Error::Io { action: "open", path: path.clone(), source })?;
    }
    let Some(path) = &args.save_session else { return Ok(()) };
    if files.contains(path) {
        return Err(Error::Input(format!(
            "{}: the session would be written over a file of the model: name another file",
            path.display()
        )));
    }
    let inputs = args.prompt.prompt_file.as_deref();
    AtomicFile::create_beside(path, inputs).map(drop)
}

/// `--max-new-tokens`, else what the model says, else the default.
fn max_new_tokens(flag: Option<i64>, files: &ModelFiles, n_prompt: usize) -> Result<Option<usize>, Error> {
    let model = files.generation_config();
    match (flag, model.max_new_tokens, model.max_length) {
        (Some(n), _, _) => Ok(usize::try_from(n).ok()),
        (None, Some(n), _) => Ok(Some(n)),
        (None, None, Some(length)) if length > n_prompt => Ok(Some(length - n_prompt)),
        (None, None, Some(length)) => Err(Error::Input(format!(
            "generation_config.json: max_length = {length} leaves no room behind a prompt of {n_prompt} tokens: \
             give --max-new-tokens"
        ))),
        (None, None, None) => Ok(Some(DEFAULT_MAX_NEW_TOKENS)),
    }
}

/// Returns why the text ended.
fn run_text(
    args: &Args,
    engine: &Engine,
    generation: &mut Generation,
    clock: Clock,
) -> anyhow::Result<Option<FinishReason>> {
    let mut writer = TextWriter::new(generation.has_text());
    let written = stream(args, engine, generation, &mut writer);
    // A failure within the text leaves it on a line of its own.
    writer.end_line().and(written)?;
    if args.output.logprobs.is_some() {
        note(&writer.logprobs_table(engine.tokenizer().ok()));
    }
    note(&report::summary(generation, clock));
    Ok(generation.finish_reason())
}

fn stream(
    args: &Args,
    engine: &Engine,
    generation: &mut Generation,
    writer: &mut TextWriter,
) -> anyhow::Result<()> {
    if args.output.echo {
        writer.echo(generation.prompt_tokens(), engine.tokenizer().ok())?;
    }
    for piece in generation {
        writer.piece(piece?)?;
    }
    Ok(())
}

/// Returns why the text ended.
fn run_json(
    args: &Args,
    engine: &Engine,
    generation: &mut Generation,
    options: &GenerateOptions,
    clock: Clock,
) -> anyhow::Result<Option<FinishReason>> {
    let mut first_token = None;
    let mut text = String::new();
    if args.output.echo
        && let Ok(tokenizer) = engine.tokenizer()
    {
        text = tokenizer.decode(generation.prompt_tokens(), false)?;
    }
    let mut logprobs = Vec::new();
    for piece in &mut *generation {
        let Piece { text: more, logprobs: scores, .. } = piece?;
        first_token.get_or_insert_with(Instant::now);
        text.push_str(&more);
        logprobs.extend(scores);
    }
    print_json(&Report::new(engine, generation, options, text, &logprobs, clock, first_token)?)?;
    Ok(generation.finish_reason())
}
