//! `wgpt perplexity`: measures how well a model predicts a text.

mod input;
mod output;
mod page;
mod tokens;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use wgpt::{Error, ModelFiles};
use wgpt_eval::perplexity::{BosChoice, PerplexityOptions, PerplexityProgress, Protocol, Split, evaluate};

use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::output::note;
use super::progress::Count;
use super::results::ReportArgs;
use super::run_info::RunInfo;
use crate::new_file::{check_distinct, create_distinct};
use input::Input;
use output::Report;
use tokens::Pieces;

/// Measure a model's perplexity on a text
///
/// Figures of two protocols cannot be compared:
///
///   hf        one stream of tokens without a begin-of-text token; a window of the
///             context's size moves by --stride, and the overlap is only context;
///             every token but the first is scored once. At stride = context, the
///             first token of each window is only context
///   llama     chunks of 512 tokens (-c) that do not overlap; the second half of
///             each is scored, 255 tokens of 512; an incomplete chunk at the end is
///             dropped
///   lm-eval   each document after a begin- or end-of-text token, in windows of the
///             context's size that overlap by one token; all tokens are scored.
///             Its figures are word_perplexity, byte_perplexity, bits_per_byte
///   segments  each document separately after a begin-of-text token, cut off at the
///             end of the context
///
/// Under hf and llama, several documents are joined by a blank line. Ctrl-C prints
/// the results so far.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  wgpt perplexity story.txt
  wgpt perplexity story.txt --tokens-table
  wgpt perplexity story.txt --html report.html
  wgpt perplexity -m ./gpt2 wiki.txt --documents rows --stride 512 --json
  wgpt perplexity stories.txt --protocol segments --documents '<|endoftext|>' --limit 300
  wgpt perplexity - --ctx-size 128 --dtype f32 --kv-dtype f32 < story.txt

Standard errors assume that tokens are independent. The standard error of the perplexity follows
from the delta method: perplexity x standard error of the mean NLL. A word is a run of characters
without white space; under lm-eval it is a piece of re.split(r\"\\s+\", text), as in its tasks."
)]
pub struct Args {
    /// UTF-8 text files, each of which is a document; `-` for stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How the text is split and which tokens are scored
    #[arg(long, value_name = "NAME", default_value = "hf", value_parser = protocol())]
    protocol: Protocol,
    /// How to split each file into documents: `lines`; `blank-lines` (the text between
    /// them); `rows` (lines as the datasets library reads wikitext, only for hf and
    /// llama); any other text is a separator, such as '<|endoftext|>' [default: each file
    /// is a document]
    #[arg(long, value_name = "HOW", value_parser = NonEmptyStringValueParser::new())]
    documents: Option<String>,
    /// hf: tokens from one window to the next; fewer give more context and take longer
    /// [default: half the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// llama: replace the first token of each chunk with the begin-of-text token
    /// [default: auto, only if the tokenizer puts that token before every text]
    #[arg(long, value_name = "WHEN", value_parser = bos())]
    bos: Option<BosChoice>,
    /// Score only the first N windows (hf, llama) or documents (lm-eval, segments)
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Tokens in a batch: windows are added until it has this many [default: twice
    /// --prefill-chunk]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch_tokens: Option<u64>,
    /// Print every scored token with its probability P, -log P, its rank (0: the most
    /// probable) and the most probable token if it is another one. `*` marks the
    /// dominating tokens: the fewest that make up half of the sum of -log P. With --json,
    /// the object contains all tokens
    #[arg(long)]
    tokens_table: bool,
    /// Also write every scored token to FILE as CSV
    #[arg(long, alias = "csv", value_name = "FILE")]
    tokens_csv: Option<PathBuf>,
    /// Also write a report to FILE as one HTML page: the text as a heat map, a histogram,
    /// the loss by position, the most surprising tokens
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    model: ModelArgs,
}

fn protocol() -> ValueParser {
    PossibleValuesParser::new(Protocol::ALL.map(Protocol::name)).try_map(|s| s.parse::<Protocol>()).into()
}

fn bos() -> ValueParser {
    PossibleValuesParser::new(["auto", "always", "never"])
        .map(|name| match name.as_str() {
            "always" => BosChoice::Always,
            "never" => BosChoice::Never,
            _ => BosChoice::Auto,
        })
        .into()
}

fn split(how: Option<&str>) -> Split {
    match how {
        None => Split::File,
        Some("lines") => Split::Lines,
        Some("blank-lines") => Split::BlankLines,
        Some("rows") => Split::Rows,
        Some(separator) => Split::Separator(separator.to_owned()),
    }
}

impl Args {
    fn options(&self) -> PerplexityOptions {
        PerplexityOptions {
            protocol: self.protocol,
            context: self.model.run.ctx_size,
            stride: self.stride,
            bos: self.bos.unwrap_or_default(),
            limit: self.limit,
            batch_tokens: self.batch_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            tokens: self.tokens_table || self.tokens_csv.is_some() || self.html.is_some(),
            cancel: Some(interrupt::flag()),
        }
    }

    /// Refuses contradictory arguments before anything is loaded.
    fn check(&self, options: &PerplexityOptions, files: &ModelFiles) -> Result<(), Error> {
        options.validate()?;
        if self.documents.as_deref() == Some("rows") && !self.protocol.is_stream() {
            return Err(Error::Input(format!(
                "--documents rows joins all rows into one text, but protocol {} scores each document \
                 separately: use lines or blank-lines",
                self.protocol
            )));
        }
        if let Some(path) =
            [&self.tokens_csv, &self.html].into_iter().flatten().find(|path| files.contains(path))
        {
            let message = format!("{}: this is a file of the model: name another file", path.display());
            return Err(Error::Input(message));
        }
        check_distinct(&[
            ("--tokens-csv", self.tokens_csv.as_deref()),
            ("--html", self.html.as_deref()),
            ("--output", self.report.file.output.as_deref()),
        ])
    }
}

/// Runs `wgpt perplexity`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let options = args.options();
    let files = args.model.open_files()?;
    args.check(&options, &files)?;
    let input =
        Input::read(&args.files, &split(args.documents.as_deref()), args.protocol, files.tokenizer()?)?;
    // Fails before the slow start of the GPU if a file cannot be written.
    let create = |path: &Path| create_distinct(path, args.files.iter().map(PathBuf::as_path));
    let csv = args.tokens_csv.as_deref().map(create).transpose()?;
    let html = args.html.as_deref().map(create).transpose()?;
    let mut sink = args.report.open(Some(&files), args.files.iter().map(PathBuf::as_path))?;
    let engine = args.model.load(files, &interrupt::flag())?;
    let started = Instant::now();
    let mut count = Count::new("tokens");
    let mut progress = |state| {
        show(&mut count, args.protocol, state);
        ControlFlow::Continue(())
    };
    let found = evaluate(&engine, &input.documents, &options, &mut progress)?;
    // This excludes the hash of the weights below, which may read many gigabytes.
    let seconds = started.elapsed().as_secs_f64();
    drop(count);
    let outcome = if found.report.complete { Outcome::Done } else { Outcome::Interrupted };
    let pieces = Pieces::new(engine.tokenizer()?, &input.documents, &found.tokens);
    let json = args.report.form.json;
    let hashed = json || html.is_some();
    let mut report = Report {
        result: found.report,
        documents: args.documents.clone().unwrap_or_else(|| "files".to_owned()),
        files: &input.files,
        data_sha256: &input.sha256,
        model_sha256: hashed.then(|| engine.files().checkpoint().sha256()).transpose()?,
        seconds,
        run: RunInfo::new(&engine),
        tokens: None,
    };
    if let Some(mut file) = csv {
        tokens::write_csv(&mut file, &pieces)?;
        file.finish()?;
    }
    if let Some(mut file) = html {
        file.write(page::page(&report, &pieces)?.as_bytes())?;
        file.finish()?;
    }
    if json {
        report.tokens = args.tokens_table.then(|| pieces.rows().collect());
        sink.print_json(&report)?;
    } else {
        sink.print(&output::text(&report.result))?;
        if args.tokens_table {
            sink.print(&tokens::table(&pieces))?;
        }
    }
    sink.finish()?;
    if outcome == Outcome::Interrupted {
        note("interrupted: the figures cover only the part that was scored");
    }
    Ok(outcome)
}

fn show(count: &mut Count, protocol: Protocol, state: PerplexityProgress) {
    let PerplexityProgress { windows_done, tokens_done, n_tokens, perplexity } = state;
    let estimate = match (perplexity, protocol) {
        (None, _) => String::new(),
        // In the format of llama-perplexity.
        (Some(value), Protocol::Llama) => format!("[{windows_done}]{value:.4}"),
        (Some(value), _) => format!("perplexity {value:.4}"),
    };
    count.set_total(n_tokens, 0);
    count.set(tokens_done, &estimate);
}
