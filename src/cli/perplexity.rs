//! `wgpt perplexity`: how well a model predicts a text.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use wgpt::eval::perplexity::{PerplexityOptions, PerplexityProgress, PerplexityReport, evaluate};

use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::output::{labelled, note, print, print_json};
use super::progress::Bar;
use super::prompt::read_text;
use super::run_info::RunInfo;

/// Measure a model's perplexity on a text
///
/// Sliding windows by the protocol of the Hugging Face documentation: the text
/// is one stream of tokens with nothing put in front; each window scores the
/// tokens that no earlier one did. Ctrl-C prints what is known so far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt perplexity story.txt
  wgpt perplexity -m ./gpt2 wikitext.txt --stride 512 --json
  wgpt perplexity - --ctx-size 128 --dtype f32 --kv-dtype f32 < story.txt")]
pub struct Args {
    /// The text, UTF-8; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tokens from one window to the next; fewer give more context and take
    /// longer [default: half the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    result: PerplexityReport,
    #[serde(flatten)]
    run: RunInfo,
}

/// Runs the verb.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let files = args.model.open_files()?;
    let tokens = files.tokenizer()?.encode(&read_text(&args.file)?)?;
    let engine = args.model.load(files, &cancel)?;
    let options = PerplexityOptions { stride: args.stride, cancel: Some(cancel.clone()) };
    let bar = Bar::new(tokens.len() as u64, "{wide_bar} {pos}/{len} tokens, {msg}, {eta} left");
    let mut progress = |state: PerplexityProgress| {
        let estimate = state.perplexity.map_or_else(String::new, |value| format!("perplexity {value:.4}"));
        bar.set(state.tokens_done as u64, estimate);
        ControlFlow::Continue(())
    };
    let result = evaluate(&engine, &tokens, options, &mut progress)?;
    drop(bar);
    let complete = result.complete;
    if args.json {
        print_json(&Report { result, run: RunInfo::new(&engine) })?;
    } else {
        print(&text(&result))?;
    }
    if complete {
        return Ok(Outcome::Done);
    }
    note("interrupted: the figures are of the part that was scored");
    Ok(Outcome::Interrupted)
}

fn text(result: &PerplexityReport) -> String {
    labelled(
        &[
            ("perplexity", format!("{:.6}", result.perplexity)),
            ("mean NLL", format!("{:.6} nats a token", result.nll)),
            ("tokens scored", format!("{} of {}", result.tokens_scored, result.n_tokens)),
            ("protocol", format!("{}, no begin-of-text token", result.protocol)),
            ("context", format!("{} tokens, stride {}", result.context, result.stride)),
        ],
        0,
    )
}
