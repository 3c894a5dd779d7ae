//! `wgpt chat`: a conversation in the terminal.

mod command;
mod input;
mod saved;
mod talk;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use wgpt::{Chat, ChatOverflow, ChatTemplate, Error, GenerateOptions, ModelFiles};

use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::prompt::read_text;
use super::sampling_args::SamplingArgs;
#[cfg(test)]
pub use command::HELP;
use input::Input;
use talk::Talk;

/// Talk to a model that was trained on conversations
///
/// The model's chat template turns the messages into a prompt. It is read from
/// chat_template.jinja or tokenizer_config.json. The part of the prompt that is the same
/// as in the previous turn is not computed again. Ctrl-C stops an answer, not the
/// program; /help lists the commands. Answers go to stdout, everything else to stderr. If
/// stdin is not a terminal, each of its lines is a message.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt chat -m ./smollm2-instruct
  wgpt chat -m ./smollm2-instruct --system \"You answer in one sentence.\" --temperature 0
  wgpt chat -m ./base-model --chat-template plain --stop \"User:\"
  wgpt chat -m ./qwen3 --template-var enable_thinking=false
  wgpt chat -m ./smollm2-instruct --load talk.json
  echo \"What is a shader?\" | wgpt chat -m ./smollm2-instruct --temperature 0")]
pub struct Args {
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// How the conversation starts and how its turns end.
#[derive(Debug, clap::Args)]
struct ChatArgs {
    /// System message; /system changes it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Template to use instead of the model's default: a Jinja file, the name of one of
    /// the model's templates, or a built-in template (chatml or plain)
    #[arg(long, value_name = "FILE|NAME")]
    chat_template: Option<String>,
    /// Variable for the template; a value that is not valid JSON is taken as text; may be
    /// repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    template_var: Vec<(String, serde_json::Value)>,
    /// Continue a conversation from a file that /save wrote
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    load: Option<PathBuf>,
    /// Maximum number of tokens to generate in an answer; -1 for as many as fit the context
    /// [default: the model's max_new_tokens, otherwise -1]
    #[arg(short = 'n', long, alias = "n-predict", value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(-1..))]
    max_new_tokens: Option<i64>,
    /// End the text before TEXT, which is not printed; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// What to do when the conversation no longer fits the context: refuse the message
    /// with an error, or drop the oldest turns
    #[arg(long, value_enum, default_value = "stop")]
    overflow: OverflowArg,
    /// Save what you type in FILE, so the arrow keys can recall it next time
    #[arg(long, value_name = "FILE", env = "WGPT_CHAT_HISTORY")]
    history: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowArg {
    Stop,
    Drop,
}

fn variable(s: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = s
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{s:?}: expected NAME=VALUE, such as enable_thinking=false"))?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Runs `wgpt chat`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    // Checks all user input before the slow start of the GPU.
    let files = args.model.open_files()?;
    let template = template(&files, args.chat.chat_template.as_deref())?;
    files.end_of_turn_ids(&template)?;
    let messages = match &args.chat.load {
        Some(path) => saved::load(path)?,
        None => Vec::new(),
    };
    let max_new_tokens = args.chat.max_new_tokens.map(|n| usize::try_from(n).ok());
    let options = GenerateOptions {
        sampling: args.sampling.resolve(files.generation_config()),
        max_new_tokens: max_new_tokens.unwrap_or(files.generation_config().max_new_tokens),
        stop: args.chat.stop.clone(),
        cancel: Some(cancel.clone()),
        ..GenerateOptions::default()
    };
    options.validate(files.config().vocab_size)?;
    let mut input = Input::open(args.chat.history.as_deref())?;

    let engine = args.model.load(files, &cancel)?;
    let mut chat = Chat::new(&engine, template)?;
    chat.set_messages(messages);
    if let Some(system) = &args.chat.system {
        chat.set_system(Some(system));
    }
    for (name, value) in &args.chat.template_var {
        chat.set_variable(name, value.clone());
    }
    chat.set_overflow(match args.chat.overflow {
        OverflowArg::Stop => ChatOverflow::Stop,
        OverflowArg::Drop => ChatOverflow::DropOldest,
    });
    Talk::new(chat, options, cancel).run(&mut input)
}

/// Returns the template of a file, the one with the given name, or the model's own.
fn template(files: &ModelFiles, wanted: Option<&str>) -> Result<ChatTemplate, Error> {
    match wanted {
        Some(path) if Path::new(path).exists() => {
            files.compile_chat_template(path, &read_text(Path::new(path))?)
        }
        name => files.chat_template(name),
    }
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_json_or_text() {
        assert_eq!(variable("a=false"), Ok(("a".into(), false.into())));
        assert_eq!(variable("a=26 Jul 2024"), Ok(("a".into(), "26 Jul 2024".into())));
        assert_eq!(variable("a=b=1"), Ok(("a".into(), "b=1".into())));
        assert_eq!(variable("a="), Ok(("a".into(), "".into())));
        assert!(variable("a").is_err() && variable("=1").is_err());
    }
}
