//! `wgpt bench model`: prefill and decode rates, as llama-bench measures them.

use std::time::Instant;

use wgpt::internals::bench::{ModelTest, RecordHeader, run_model_test};
use wgpt::{Engine, Session};

use super::model_output::{Row, Writer};
use crate::exit::Outcome;
use crate::interrupt;
use crate::model_args::ModelArgs;
use crate::output::note;
use crate::progress::Bar;
use crate::results::{Sink, TableArgs};

/// Measure a model's prefill (pp) and decode (tg) rates, as llama-bench does
///
/// One warm-up run precedes the repetitions. Each pp run processes all its random tokens
/// at once, each tg run processes them one by one. The logits of the last token are read
/// back; nothing is sampled. At a depth of D, the context already holds D tokens, which
/// are not timed. If several depths are given, a test is skipped at the depths where it
/// does not fit.
///
/// A second table, or more columns in the other formats, shows: the time to the first
/// token, cold (from opening the device to the first token after this prompt, including
/// weights and compilation) and warm; the host's time per token for encoding, submitting,
/// waiting and reading back; dispatches per token; and the peak memory so far, on the GPU
/// and in the process.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench model
  wgpt bench model -m ./gpt2 --n-prompt 128,512 --n-gen 64 --n-depth 0,256
  wgpt bench model --random gpt2-xl                                 random weights, without a file
  wgpt bench model --n-prompt 0 --n-gen 32 --batch 1,2,4,8,16       many sequences per step
  wgpt bench model --n-prompt 0 --n-gen 32 -r 10 --json -o a.json   decode only, with all samples")]
pub struct Args {
    /// Tokens in each prompt; 0 for no prompt [default: 512, fewer in a shorter context]
    #[arg(short_alias = 'p', long, value_name = "N,...", value_delimiter = ',')]
    n_prompt: Option<Vec<usize>>,
    /// Tokens to decode; 0 for none [default: 128, fewer in a shorter context]
    #[arg(short_alias = 'n', long, value_name = "N,...", value_delimiter = ',')]
    n_gen: Option<Vec<usize>>,
    /// Tokens in the context before each test
    #[arg(short_alias = 'd', long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    n_depth: Vec<usize>,
    /// Sequences to decode together, one token each per step (tg only); more than 16 take
    /// several passes per step
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Vec<u32>,
    /// Timed repetitions of each measurement
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repetitions: u32,
    #[command(flatten)]
    table: TableArgs,
    /// Print one JSON object per line
    #[arg(long, help_heading = "Output", conflicts_with_all = ["json", "csv"])]
    jsonl: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// The sizes of llama-bench's tests.
const DEFAULT_PROMPT: usize = 512;
const DEFAULT_GEN: usize = 128;

/// Runs `wgpt bench model`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let (format, output) = args.table.resolve(Some(args.jsonl))?;
    let files = args.model.open_files()?;
    let n_ctx = args.model.run.ctx_size.unwrap_or(files.config().default_n_ctx());
    let Tests { tests, left_out } = tests(args, n_ctx)?;
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().map(ModelTest::name).collect();
        note(&format!(
            "note: left out, because the context holds only {n_ctx} positions: {}",
            names.join(", ")
        ));
    }
    // Fails before the slow start of the GPU if the file cannot be written.
    let sink = Sink::open(output, Some(&files), [])?;
    let start = Instant::now();
    let engine = args.model.load(files, &cancel)?;
    let load_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if cfg!(debug_assertions) {
        note("note: this is a debug build; a release build is faster");
    }
    let mut writer = Writer::new(format, sink);
    let mut session = engine.session();
    for test in tests {
        match measure(&engine, &mut session, load_ns, test, args.repetitions as usize, &cancel) {
            Err(error) if error.kind() == wgpt::ErrorKind::Cancelled => {
                writer.finish()?;
                note("interrupted");
                return Ok(Outcome::Interrupted);
            }
            row => writer.row(row?)?,
        }
    }
    writer.finish()?;
    Ok(Outcome::Done)
}

fn measure(
    engine: &Engine,
    session: &mut Session,
    load_ns: u64,
    test: ModelTest,
    repetitions: usize,
    cancel: &wgpt::CancelFlag,
) -> wgpt::Result<Row> {
    let bar = Bar::new(repetitions as u64, "{msg}  {wide_bar} {pos}/{len}");
    let header = RecordHeader::new(&engine.gpu());
    let result = run_model_test(engine, session, test, repetitions, cancel, &mut |state| {
        bar.set(state.done as u64, test.name())
    })?;
    Ok(Row::new(engine, header, load_ns, &result))
}

/// The tests to run, and the tests that fit only at another depth.
struct Tests {
    tests: Vec<ModelTest>,
    left_out: Vec<ModelTest>,
}

/// Returns the tests in llama-bench's order: for each depth the prompts, then decoding.
/// Default sizes shrink to fit the context. Sizes from the user do not shrink; they are
/// refused if they fit at no depth.
fn tests(args: &Args, n_ctx: usize) -> wgpt::Result<Tests> {
    let sizes = |requested: &Option<Vec<usize>>, default: usize, n_depth: usize| match requested {
        Some(sizes) => sizes.clone(),
        None => vec![default.min(n_ctx.saturating_sub(n_depth))],
    };
    let mut tests = Vec::new();
    for &n_depth in &args.n_depth {
        let prompts = sizes(&args.n_prompt, DEFAULT_PROMPT, n_depth);
        tests.extend(prompts.into_iter().map(|n_prompt| ModelTest {
            n_prompt,
            n_depth,
            ..ModelTest::default()
        }));
        let gens = sizes(&args.n_gen, DEFAULT_GEN, n_depth);
        tests.extend(gens.into_iter().flat_map(|n_gen| {
            let batch = args.batch.iter().map(|&n| n as usize);
            batch.map(move |n_sequences| ModelTest { n_prompt: 0, n_gen, n_depth, n_sequences })
        }));
    }
    tests.retain(|test| test.n_tokens() > 0);
    if tests.is_empty() {
        return Err(wgpt::Error::Input(format!(
            "there is nothing to measure: every test has 0 tokens (the context holds {n_ctx} positions): \
             give --n-prompt or --n-gen above 0, or a smaller --n-depth"
        )));
    }
    // Fails before the model is loaded and before other tests run.
    let (tests, left_out): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test.check(n_ctx).is_ok());
    for test in &left_out {
        let size = |test: &ModelTest| (test.n_prompt, test.n_gen, test.n_sequences);
        if !tests.iter().any(|other| size(other) == size(test)) {
            test.check(n_ctx)?;
        }
    }
    Ok(Tests { tests, left_out })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn names(line: &str, n_ctx: usize) -> wgpt::Result<Vec<String>> {
        let line = Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap();
        Ok(tests(&line.args, n_ctx)?.tests.iter().map(ModelTest::name).collect())
    }

    #[test]
    fn defaults_shrink_to_the_context_but_requests_do_not() {
        assert_eq!(names("", 1024).unwrap(), ["pp512", "tg128"]);
        assert_eq!(names("", 100).unwrap(), ["pp100", "tg100"]);
        assert_eq!(names("-d 0,90", 100).unwrap(), ["pp100", "tg100", "pp10 @ d90", "tg10 @ d90"]);
        assert_eq!(names("-p 0 -n 32", 1024).unwrap(), ["tg32"]);
        assert_eq!(names("-p 1,2 -n 0 -d 5", 1024).unwrap(), ["pp1 @ d5", "pp2 @ d5"]);
        assert_eq!(
            names("-p 8 -n 4,5 --batch 1,3 -d 0,9", 100).unwrap(),
            [
                "pp8",
                "tg4",
                "tg4 b3",
                "tg5",
                "tg5 b3",
                "pp8 @ d9",
                "tg4 @ d9",
                "tg4 b3 @ d9",
                "tg5 @ d9",
                "tg5 b3 @ d9"
            ]
        );
        let error = names("-p 512", 100).unwrap_err().to_string();
        assert!(error.contains("test pp512 takes 512 positions, but the context holds 100"), "{error}");
        assert!(names("-p 10 -d 95", 100).is_err());
        // Each size needs at least one depth where it fits.
        let line = "-p 32,128,512,1024 -n 64 -d 0,512,1000";
        assert_eq!(
            names(line, 1024).unwrap(),
            [
                "pp32",
                "pp128",
                "pp512",
                "pp1024",
                "tg64",
                "pp32 @ d512",
                "pp128 @ d512",
                "pp512 @ d512",
                "tg64 @ d512"
            ]
        );
        assert_eq!(names(line, 2048).unwrap().len(), 15);
        assert!(names(line, 1000).unwrap_err().to_string().contains("test pp1024 takes 1024 positions"));
        assert!(names("-p 0 -n 0", 100).unwrap_err().to_string().contains("nothing to measure"));
        assert!(names("-d 100", 100).unwrap_err().to_string().contains("nothing to measure"));
    }
}
