//! `wgpt completions`: completion scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::exit::Outcome;
use super::output::print;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt completions bash > ~/.local/share/bash-completion/completions/wgpt
  wgpt completions zsh > ~/.zfunc/_wgpt
  wgpt completions fish > ~/.config/fish/completions/wgpt.fish")]
pub struct Args {
    /// Shell that the script is for
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `wgpt completions`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    // Generates into memory first: clap_complete panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "wgpt", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
