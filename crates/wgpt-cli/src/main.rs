//! The program `wgpt`: arguments, printing, progress and exit codes, with one file per
//! command.
//!
//! stdout carries only the result; notices, progress and errors go to stderr.

mod bench;
mod chat;
mod compare;
mod completions;
#[cfg(test)]
mod consistency;
mod curve;
mod devices;
mod digest;
mod doctor;
mod doctor_output;
mod eval;
mod eval_output;
mod exit;
mod flags;
mod generate;
mod inspect;
mod interrupt;
mod logits;
mod model_args;
mod new_file;
mod output;
mod perplexity;
mod plot;
mod profile;
mod progress;
mod prompt;
mod results;
mod run_info;
mod sampling_args;
mod table;
mod tensor_file;
mod trace;
mod tune;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use exit::Outcome;

/// Run language models (Llama, Qwen, Mistral, Gemma, GPT-2, ...) on the GPU, with
/// hand-written WGSL kernels on Vulkan, Metal and DX12.
#[derive(Debug, Parser)]
#[command(
    name = "wgpt",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  wgpt generate -p \"Once upon a time\"          the embedded demo model
  wgpt generate -m ./gpt2 -p \"Hello\" -n 64     a model in Hugging Face layout
  wgpt chat -m ./smollm2-instruct              a conversation with a chat model
  wgpt devices                                 the GPUs, the preferred one first
  wgpt doctor                                  a report on this machine, to paste into an issue

Exit codes: 0 done, 2 usage, 3 no adapter, 4 bad model or input, 124 time limit, 130 Ctrl-C,
1 any other error."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Generate(Box<generate::Args>),
    Chat(Box<chat::Args>),
    Perplexity(perplexity::Args),
    Compare(compare::Args),
    Curve(curve::Args),
    Eval(eval::Args),
    Logits(logits::Args),
    Inspect(inspect::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Profile(profile::Args),
    Tune(tune::Args),
    Completions(completions::Args),
}

/// Parses the arguments, runs the command and reports its error.
fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Exits with 2 for usage errors, with 0 for --help and --version.
        Err(error) => error.exit(),
    };
    exit::code(run(cli.verb, started))
}

fn run(verb: Verb, started: Instant) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Generate(args) => generate::run(&args, started),
        Verb::Chat(args) => chat::run(&args),
        Verb::Perplexity(args) => perplexity::run(&args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Curve(args) => curve::run(&args),
        Verb::Eval(args) => eval::run(&args),
        Verb::Logits(args) => logits::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Devices(args) => devices::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Profile(args) => profile::run(&args),
        Verb::Tune(args) => tune::run(&args),
        Verb::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples() {
        for verb in super::Cli::command().get_subcommands() {
            // `bench` has subcommands.
            let leaves: Vec<_> = verb.get_subcommands().collect();
            for command in if leaves.is_empty() { vec![verb] } else { leaves } {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  wgpt "), "{}", command.get_name());
            }
        }
    }
}
