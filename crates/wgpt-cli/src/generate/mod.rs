//! `wgpt generate`: generates text after a prompt.

mod report;
mod text;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use wgpt::internals::engine::check_saved;
use wgpt::internals::kernels::BATCH_MAX;
use wgpt::{Engine, Error, FinishReason, GenerateOptions, Generation, ModelFiles, Overflow, Piece};

use super::exit::Outcome;
use super::model_args::ModelArgs;
use super::output::{OutputClosed, note, print_json};
use super::prompt::PromptArgs;
use super::results::JsonArg;
use super::sampling_args::SamplingArgs;
use super::{interrupt, tune};
use crate::new_file::create_distinct;
use report::{Clock, Report};
use text::TextWriter;

/// Generate text after a prompt
///
/// Streams the text to stdout and prints a summary to stderr; with --json, prints one
/// object at the end. An empty prompt starts a new text. The model's
/// generation_config.json overrides the defaults, and flags override both. If the model
/// has no tokenizer (with --tokens), token ids separated by spaces are printed instead of
/// text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt generate -p \"Once upon a time\"
  wgpt generate -p \"The cat\" --temperature 0 -n 50        always the most likely token
  wgpt generate -m ./gpt2 --prompt-file story.txt -s 42   the same text each time
  wgpt generate -m ./gpt2 --prompt-file code.txt --temperature 0 --prompt-lookup 5
  wgpt generate -p \"One day\" --save-session story.session
  wgpt generate -p \"\" --session story.session           continues the session
  echo \"One day\" | wgpt generate - --stop \"The end\"
  wgpt generate -m ./gpt2 --tokens 15496,11 --json --logprobs 5")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Continue a session that --save-session wrote. Its text is not computed again; the
    /// prompt, which may be empty, is appended to it
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// Save the prompt and the text with their keys and values in FILE, which may be the
    /// file of --session
    #[arg(long, value_name = "FILE")]
    save_session: Option<PathBuf>,
    /// Seconds to search for the fastest kernels after the text, if the cache has no
    /// choice for the model; 0 for no search [default: 2; 0 on software adapters]
    #[arg(long, value_name = "SECONDS", env = "WGPT_TUNE_SECONDS", value_parser = tune::seconds)]
    tune_seconds: Option<Duration>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    form: JsonArg,
    /// Old spelling of --json
    #[arg(long, value_enum, hide = true, conflicts_with = "json")]
    output_format: Option<OutputFormat>,
    #[command(flatten)]
    model: ModelArgs,
}

/// When the text ends and how it is printed.
#[derive(Debug, clap::Args)]
struct TextArgs {
    /// Maximum number of tokens to generate; -1 for as many as fit the context [default:
    /// the model's max_new_tokens, otherwise 256]
    #[arg(short = 'n', long, alias = "n-predict", value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(-1..))]
    max_new_tokens: Option<i64>,
    /// End the text before TEXT, which is not printed; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Continue after end-of-text tokens
    #[arg(long)]
    ignore_eos: bool,
    /// End the text after this many seconds, including the time for the prompt. The text
    /// so far is printed, and the exit code is 124
    #[arg(long, value_name = "SECONDS", value_parser = tune::seconds)]
    timeout: Option<Duration>,
    /// What to do when the context is full: stop, or keep its newer half and continue
    #[arg(long, value_enum, default_value = "stop")]
    overflow: OverflowArg,
    /// Verify up to N draft tokens per pass, copied from an earlier occurrence of the
    /// latest tokens. The greedy text stays the same, and repetitive text is faster.
    /// Needs --temperature 0, without penalties, bias and --logprobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..BATCH_MAX as i64))]
    prompt_lookup: Option<u32>,
    /// Show the log-probability of each token and of the N most likely ones: in JSON, or
    /// as a table on stderr
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    /// Print the prompt before the text
    #[arg(long)]
    echo: bool,
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

/// Number of tokens to generate if neither a flag nor the model sets it.
const DEFAULT_MAX_NEW_TOKENS: usize = 256;

/// Runs `wgpt generate`; `started` is the program's start.
pub fn run(args: &Args, started: Instant) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    // Checks all user input before the slow start of the GPU.
    let files = args.model.open_files()?;
    let prompt = args.prompt.tokens(&files)?;
    let sampling = args.sampling.resolve(files.generation_config());
    let options = GenerateOptions {
        sampling,
        max_new_tokens: max_new_tokens(args.text.max_new_tokens, &files, prompt.len())?,
        stop: args.text.stop.clone(),
        ignore_eos: args.text.ignore_eos,
        end_ids: Vec::new(),
        logprobs: args.text.logprobs,
        overflow: match args.text.overflow {
            OverflowArg::Stop => Overflow::Stop,
            OverflowArg::Slide => Overflow::Slide,
        },
        prompt_lookup: args.text.prompt_lookup.map(|n| n as usize),
        cancel: Some(cancel.clone()),
        timeout: args.text.timeout,
    };
    options.validate(files.config().vocab_size)?;
    check_sessions(args, &files)?;
    let engine = args.model.load(files, &cancel)?;
    let clock = Clock { started, loaded: Instant::now() };
    let session = args.session.as_ref().map_or_else(|| Ok(engine.session()), |path| engine.restore(path))?;
    let mut generation = session.generate(&prompt, options.clone())?;
    let ended = if args.form.json || args.output_format == Some(OutputFormat::Json) {
        run_json(args, &engine, &mut generation, &options, clock)
    } else {
        run_text(args, &engine, &mut generation, clock)
    };
    // If a reader closes the pipe, the text ends, but the session is still saved.
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
        tune::after_a_text(&engine, args.tune_seconds);
    }
    Ok(if interrupt::raised(&cancel) { Outcome::Interrupted } else { Outcome::Done })
}

/// Checks that the session files can be read and written, and that --session belongs to
/// the model, as far as the model's small files show this.
fn check_sessions(args: &Args, files: &ModelFiles) -> Result<(), Error> {
    if let Some(path) = &args.session {
        let n_ctx = args.model.run.ctx_size.unwrap_or(files.config().default_n_ctx());
        check_saved(path, files, n_ctx)?;
    }
    let Some(path) = &args.save_session else { return Ok(()) };
    if files.contains(path) {
        return Err(Error::Input(format!(
            "--save-session {}: this is a file of the model: name another file",
            path.display()
        )));
    }
    let inputs = args.prompt.prompt_file.as_deref();
    create_distinct(path, inputs).map(drop)
}

/// Returns the limit of `--max-new-tokens`, otherwise the model's, otherwise the default;
/// `None` is unlimited.
fn max_new_tokens(flag: Option<i64>, files: &ModelFiles, n_prompt: usize) -> Result<Option<usize>, Error> {
    let model = files.generation_config();
    match (flag, model.max_new_tokens, model.max_length) {
        (Some(n), _, _) => Ok(usize::try_from(n).ok()),
        (None, Some(n), _) => Ok(Some(n)),
        (None, None, Some(length)) if length > n_prompt => Ok(Some(length - n_prompt)),
        (None, None, Some(length)) => Err(Error::Input(format!(
            "generation_config.json: max_length = {length} allows no new token after a prompt of {n_prompt} \
             tokens: give --max-new-tokens"
        ))),
        (None, None, None) => Ok(Some(DEFAULT_MAX_NEW_TOKENS)),
    }
}

/// Prints the text and a summary; returns why the text ended.
fn run_text(
    args: &Args,
    engine: &Engine,
    generation: &mut Generation,
    clock: Clock,
) -> anyhow::Result<Option<FinishReason>> {
    let mut writer = TextWriter::new(generation.has_text());
    let written = stream(args, engine, generation, &mut writer);
    // Ends the line first, so that an error message does not follow the text on its line.
    writer.end_line().and(written)?;
    if args.text.logprobs.is_some() {
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
    if args.text.echo {
        writer.echo(generation.prompt_tokens(), engine.tokenizer().ok())?;
    }
    for piece in generation {
        writer.piece(piece?)?;
    }
    Ok(())
}

/// Prints one JSON object; returns why the text ended.
fn run_json(
    args: &Args,
    engine: &Engine,
    generation: &mut Generation,
    options: &GenerateOptions,
    clock: Clock,
) -> anyhow::Result<Option<FinishReason>> {
    let mut first_token = None;
    let mut text = String::new();
    if args.text.echo
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
