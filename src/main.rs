//! The `wgpt` program: see `wgpt --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
