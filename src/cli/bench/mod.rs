//! `wgpt bench`: how fast this machine is; one file a subject.

mod model;
mod model_output;

use super::exit::Outcome;

/// Measure speed
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Model(model::Args),
}

/// Runs the verb.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    match &args.what {
        What::Model(args) => model::run(args),
    }
}
