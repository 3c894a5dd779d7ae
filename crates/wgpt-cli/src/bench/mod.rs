//! `wgpt bench`: the speed of this machine; one file per subcommand.

mod compare;
mod kernels;
mod kernels_output;
mod model;
mod model_output;
mod plot;
mod record_file;

use super::exit::Outcome;

/// Measure speed, and compare or draw the results
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Model(model::Args),
    Kernels(kernels::Args),
    Compare(compare::Args),
    Plot(plot::Args),
}

/// Runs `wgpt bench`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    match &args.what {
        What::Model(args) => model::run(args),
        What::Kernels(args) => kernels::run(args),
        What::Compare(args) => compare::run(args),
        What::Plot(args) => plot::run(args),
    }
}
