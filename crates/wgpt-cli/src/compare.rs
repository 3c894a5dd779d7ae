//! `wgpt compare`: the difference between the predictions of two models.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use wgpt::{DType, Engine, Error, ModelFiles, ModelOptions, Tokenizer};
use wgpt_eval::MeanError;
use wgpt_eval::compare::{
    CompareOptions, CompareProgress, CompareReport, ModelFigures, TokenDifference, compare, shared_tokens,
};

use super::digest::DataInfo;
use super::exit::Outcome;
use super::interrupt;
use super::model_args::{RunArgs, dtype, load, open_model};
use super::output::{labelled, note};
use super::progress::Count;
use super::prompt::read_text;
use super::results::ReportArgs;
use super::run_info::{RunInfo, VERSION};
use super::table::Table;

/// Compare two models, or two precisions of one model, on a text
///
/// Reports the perplexities of both models (protocol hf, as in wgpt perplexity), the
/// Kullback-Leibler divergence D(A || B) of their predictions in nats per token, how
/// often both rank the same token first, and the tokens where their predictions differ
/// most. All figures are computed in f64 from the logits of both models, which must share
/// one vocabulary. Ctrl-C prints the results so far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt compare ./gpt2 ./gpt2-finetuned story.txt
  wgpt compare demo demo story.txt --dtype f32 --kv-dtype f32 --dtype-b f16 --kv-dtype-b f16
  wgpt compare out/checkpoint-500.safetensors out/checkpoint-1000.safetensors story.txt --top 20
  wgpt compare ./gpt2 ./gpt2 wikitext.txt --kv-dtype f32 --kv-dtype-b f16 --limit 20000 --json")]
pub struct Args {
    /// Reference model: a directory, a safetensors file next to config.json, or demo for
    /// the embedded model
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Model to compare with A
    #[arg(value_name = "B")]
    b: PathBuf,
    /// UTF-8 text file; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Type of B's weights on the GPU [default: A's type, set by --dtype]
    #[arg(long, value_name = "DTYPE", value_parser = dtype())]
    dtype_b: Option<DType>,
    /// Type of B's cached keys and values [default: A's type, set by --kv-dtype]
    #[arg(long, value_name = "DTYPE", value_parser = dtype())]
    kv_dtype_b: Option<DType>,
    /// Tokens from one window to the next [default: half the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Compare only the first N tokens of the text
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Number of tokens with the largest differences to list
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    result: CompareReport,
    /// The texts of `most_different`, in the same order.
    most_different_texts: Vec<Texts>,
    model_a: ModelInfo,
    model_b: ModelInfo,
    data: DataInfo,
    wgpt_version: &'static str,
}

#[derive(Serialize)]
struct ModelInfo {
    sha256: String,
    #[serde(flatten)]
    run: RunInfo,
}

/// One entry of `most_different` as text.
#[derive(Serialize)]
struct Texts {
    /// The text before the token.
    context: String,
    token: String,
    best_a: String,
    best_b: String,
}

/// Runs `wgpt compare`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let (files_a, files_b) = (open_model(&args.a)?, open_model(&args.b)?);
    let (text, options_a, options_b) = (read_text(&args.file)?, args.run.model_options(), options_b(args));
    let mut tokens = shared_tokens(&files_a, &files_b, &text)?;
    tokens.truncate(args.limit.unwrap_or(usize::MAX));
    // Fails before the slow start of the GPU if the file cannot be written.
    if let Some(path) = args.report.file.output.as_deref().filter(|path| files_b.contains(path)) {
        let message = format!("--output {}: this is a file of the model: name another file", path.display());
        return Err(Error::Input(message).into());
    }
    let mut sink = args.report.open(Some(&files_a), [args.file.as_path()])?;
    let gpu = args.run.open_gpu()?;
    let a = load(files_a, gpu.clone(), &options_a, &cancel)?;
    let b = load(files_b, gpu, &options_b, &cancel)?;
    let mut count = Count::new("tokens");
    count.set_total(tokens.len() as u64, 0);
    let mut progress = |state: CompareProgress| {
        let estimate = state.mean_kl.map_or_else(String::new, |kl| format!("mean KL {kl:.3e}"));
        count.set(state.tokens_done as u64, &estimate);
        ControlFlow::Continue(())
    };
    let options =
        CompareOptions { stride: args.stride, n_most_different: args.top, cancel: Some(cancel.clone()) };
    let result = compare(&a, &b, &tokens, &options, &mut progress).map_err(|error| match error {
        Error::Input(message) => Error::Input(format!("{}: {message}", args.file.display())),
        other => other,
    })?;
    drop(count);
    let complete = result.complete;
    let texts = texts(a.tokenizer()?, &tokens, &result.most_different)?;
    if args.report.form.json {
        sink.print_json(&Report {
            result,
            most_different_texts: texts,
            model_a: model_info(&a)?,
            model_b: model_info(&b)?,
            data: DataInfo::new(&args.file, &text),
            wgpt_version: VERSION,
        })?;
    } else {
        let names = [name(a.files(), &options_a), name(b.files(), &options_b)];
        sink.print(&text_of(&result, &texts, &names))?;
    }
    sink.finish()?;
    if complete {
        return Ok(Outcome::Done);
    }
    note("interrupted: the figures cover only the part that was scored");
    Ok(Outcome::Interrupted)
}

fn options_b(args: &Args) -> ModelOptions {
    let options = args.run.model_options();
    ModelOptions {
        dtype: args.dtype_b.unwrap_or(options.dtype),
        kv_dtype: args.kv_dtype_b.unwrap_or(options.kv_dtype),
        ..options
    }
}

fn model_info(engine: &Engine) -> Result<ModelInfo, Error> {
    Ok(ModelInfo { sha256: engine.files().checkpoint().sha256()?, run: RunInfo::new(engine) })
}

fn name(files: &ModelFiles, options: &ModelOptions) -> String {
    format!("{} ({}, cache {})", files.name(), options.dtype.name(), options.kv_dtype.name())
}

/// Number of tokens before a place that are kept as its context.
const CONTEXT_TOKENS: usize = 12;
/// Number of characters of that context that the table shows.
const CONTEXT_CHARS: usize = 36;

fn texts(tokenizer: &Tokenizer, tokens: &[u32], places: &[TokenDifference]) -> Result<Vec<Texts>, Error> {
    let text = |ids: &[u32]| tokenizer.decode(ids, false);
    places
        .iter()
        .map(|place| {
            Ok(Texts {
                context: text(&tokens[place.position.saturating_sub(CONTEXT_TOKENS)..place.position])?,
                token: text(&[place.token])?,
                best_a: text(&[place.best_a])?,
                best_b: text(&[place.best_b])?,
            })
        })
        .collect()
}

/// Returns the text as one quoted line with special characters escaped, and `|` replaced
/// so that it does not end a table cell.
fn quoted(text: &str) -> String {
    format!("{:?}", text.replace('|', "\u{2502}"))
}

/// Returns the end of a context.
fn tail(text: &str) -> String {
    let n = text.chars().count();
    text.chars().skip(n.saturating_sub(CONTEXT_CHARS)).collect()
}

fn text_of(result: &CompareReport, texts: &[Texts], names: &[String; 2]) -> String {
    let figures = labelled(&figures(result, names), 0);
    if texts.is_empty() { figures } else { format!("{figures}\n{}", table(&result.most_different, texts)) }
}

fn figures(result: &CompareReport, names: &[String; 2]) -> Vec<(&'static str, String)> {
    let plus_minus = |value: &MeanError| format!("{:.6} +/- {:.6}", value.mean, value.standard_error);
    let perplexity = |model: &ModelFigures| {
        format!("{:.6}, mean NLL {} nats per token", model.perplexity, plus_minus(&model.nll))
    };
    let MeanError { mean, standard_error } = result.kl.mean;
    let quantiles = result.kl.quantiles.iter().map(|(q, kl)| format!("{} % {kl:.3e}", q * 100.0));
    let agreement = &result.top1_agreement;
    vec![
        ("A", names[0].clone()),
        ("B", names[1].clone()),
        ("perplexity A", perplexity(&result.a)),
        ("perplexity B", perplexity(&result.b)),
        ("NLL, B minus A", plus_minus(&result.nll_difference)),
        (
            "KL(A || B)",
            format!("{mean:.4e} +/- {standard_error:.1e} nats per token, at most {:.3e}", result.kl.max),
        ),
        ("KL quantiles", quantiles.collect::<Vec<_>>().join(", ")),
        (
            "same top token",
            format!("{:.3} +/- {:.3} %", 100.0 * agreement.mean, 100.0 * agreement.standard_error),
        ),
        (
            "RMS of log P",
            format!(
                "{:.4e} nats: the models' difference for the text's tokens",
                result.logprob_rms_difference
            ),
        ),
        ("tokens scored", format!("{} of {}", result.tokens_scored, result.n_tokens)),
        ("protocol", format!("{}, no begin-of-text token", result.protocol)),
        ("context", format!("{} tokens, stride {}", result.context, result.stride)),
    ]
}

fn table(places: &[TokenDifference], texts: &[Texts]) -> String {
    let table = Table::new([
        ("position", -8),
        ("context", 38),
        ("token", 10),
        ("P(A)", -9),
        ("P(B)", -9),
        ("best A", 10),
        ("best B", 10),
        ("KL", -9),
    ]);
    let rows = places.iter().zip(texts).map(|(place, text)| {
        table.row(&[
            place.position.to_string(),
            quoted(&tail(&text.context)),
            quoted(&text.token),
            format!("{:.3e}", place.logprob_a.exp()),
            format!("{:.3e}", place.logprob_b.exp()),
            quoted(&text.best_a),
            quoted(&text.best_b),
            format!("{:.3e}", place.kl),
        ])
    });
    table.head() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_on_one_line() {
        assert_eq!(quoted("a\n|\"b"), "\"a\\n\u{2502}\\\"b\"");
        assert_eq!(tail(&"x".repeat(100)).len(), CONTEXT_CHARS);
        assert_eq!(tail("short"), "short");
    }
}
