//! `wgpt logits`: writes the logits of a prompt to a file.

use std::path::PathBuf;

use wgpt::Error;

use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::new_file::create_distinct;
use super::output::note;
use super::prompt::PromptArgs;
use super::run_info::VERSION;
use super::tensor_file::TensorFile;

/// Write the logits after every token of a prompt to a file
///
/// The safetensors file holds `input_ids`, I32 [n], and `logits`, F32 [n, vocab_size]. It
/// appears under its name only when it is complete.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt logits -p \"Once upon a time\" -o logits.safetensors
  wgpt logits -m ./gpt2 --tokens 15496,11,995 --dtype f32 --kv-dtype f32 -o logits.safetensors")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Write the logits to FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs `wgpt logits`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let files = args.model.open_files()?;
    let tokens = args.prompt.tokens(&files)?;
    if tokens.is_empty() {
        return Err(Error::Input(
            "the prompt has no tokens, so it has no logits: give at least one token".into(),
        )
        .into());
    }
    let vocab_size = files.config().vocab_size;
    let metadata = [
        ("model", files.name()),
        ("dtype", args.model.run.dtype.name()),
        ("kv_dtype", args.model.run.kv_dtype.name()),
        ("wgpt_version", VERSION),
    ];
    if files.contains(&args.output) {
        let message =
            format!("--output {}: this is a file of the model: name another file", args.output.display());
        return Err(Error::Input(message).into());
    }
    // Fails before the slow start of the GPU if the file cannot be written.
    let file = create_distinct(&args.output, args.prompt.prompt_file.as_deref())?;
    let mut file = TensorFile::start(file, &tokens, vocab_size, &metadata)?;
    let engine = args.model.load(files, &cancel)?;
    let mut session = engine.session();
    session.set_cancel(cancel);
    session.advance_each(&tokens, |i, logits| {
        if logits.iter().any(|x| x.is_nan()) {
            return Err(Error::Input(format!(
                "the logits after token {i} contain NaN, because values of the model overflow f16: use \
                 --kv-dtype f32 and --dtype f32"
            )));
        }
        file.row(logits)
    })?;
    file.finish()?;
    note(&format!("wrote {}: logits [{}, {vocab_size}]", args.output.display(), tokens.len()));
    Ok(Outcome::Done)
}
