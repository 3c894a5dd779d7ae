//! `wgpt doctor`: a report on whether wgpt works on this machine, to paste into an issue.

use std::time::Duration;

use anyhow::anyhow;
use wgpt::doctor::{self, Options, Progress, Report, Verdict};
use wgpt::{CancelFlag, Error};

use super::doctor_output::text;
use super::exit::Outcome;
use super::flags::with_flags;
use super::interrupt;
use super::model_args::ModelArgs;
use super::progress::Bar;
use super::results::ReportArgs;
use super::tune::seconds;

/// Check this machine and print a report to paste into an issue
///
/// Inspects the adapter, driver, DX12 compiler, features and limits. Opens the device,
/// and a second one with only the portable floor. Checks every implementation of every
/// operation against the reference at a model's sizes (the demo model's unless you name
/// another). Inspects the caches. Measures bandwidths and the demo model's rates. The
/// report contains no paths except the cache's and those in environment variables, and it
/// shows your home directory as ~. Nothing is sent anywhere. The first run on a software
/// adapter takes about a minute, because its driver compiles all kernels.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt doctor
  wgpt doctor --device 1 --seconds 0           no benchmark
  wgpt doctor -m ./gpt2                        checks the kernels at this model's sizes
  wgpt doctor --json -o report.json

Verdict and exit code:
  ok        0  no problem was found
  warnings  0  wgpt works, with a restriction: a software adapter, FXC as the DX12 compiler,
               a cache that cannot be written or read, a wrong kernel that is never used
  broken    1  a kernel that runs is wrong, the device or the portable floor cannot be
               opened, the benchmark fails
               3 if no adapter is found; the report is still printed
  Other exit codes: 2 usage, 4 bad model or input, 130 Ctrl-C.

JSON: one object with verdict, findings (severity, subject, message), time, program,
machine, adapter (as `wgpt devices --json`), other_adapters, device, features (name,
purpose, offered, requested), limits (name, offered, floor, reaches_floor), floor
(opened, problem, kernels), model, kernels (op, variant, status: passed, demoted or
unavailable, reason, default, in_use), cache, environment (name, value), benchmark.
Unknown values are null or empty; no field is left out.")]
pub struct Args {
    /// Approximate duration of the benchmark in seconds; 0 skips it
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs `wgpt doctor`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let options = options(args)?;
    let mut sink = args.report.open(None, [])?;
    let mut report = check_up(&options, &cancel)?;
    for finding in &mut report.findings {
        finding.message = with_flags(&finding.message);
    }
    if args.report.form.json {
        sink.print_json(&report)?;
    } else {
        sink.print(&text(&report))?;
    }
    sink.finish()?;
    conclude(&report)
}

fn options(args: &Args) -> Result<Options, Error> {
    let mut options = Options::new()?;
    options.gpu = args.model.gpu_options();
    options.model = args.model.model_options();
    options.benchmark = args.seconds;
    if args.model.model.is_some() || args.model.random.is_some() {
        options.set_model(&*args.model.open_files()?);
    }
    Ok(options)
}

/// Runs the checks with a progress bar. Panics of wgpu are only listed in the report, not
/// printed. Ctrl-C ends the program at once, because a driver may take half a minute to
/// compile a kernel, or never return. No unfinished file remains.
fn check_up(options: &Options, cancel: &CancelFlag) -> Result<Report, Error> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = {
        let bar = Bar::new(1, "doctor   {wide_bar} {pos}/{len} {msg}");
        let mut update = |progress: Progress| {
            bar.set_total(progress.total as u64, 0);
            bar.set(progress.done as u64, progress.what);
        };
        interrupt::blocked(|| doctor::run(options, &mut update, cancel))
    };
    std::panic::set_hook(hook);
    result
}

/// Returns the outcome for a report that was printed, which sets the exit code.
fn conclude(report: &Report) -> anyhow::Result<Outcome> {
    if report.verdict != Verdict::Broken {
        return Ok(Outcome::Done);
    }
    let worst = report.findings.first().map_or("", |finding| finding.message.as_str());
    if report.has_no_adapter() {
        return Err(Error::NoAdapter(worst.to_owned()).into());
    }
    Err(anyhow!("wgpt does not work correctly on this machine: {worst}"))
}

#[cfg(test)]
mod tests {
    use super::super::exit;
    use super::*;
    use wgpt::doctor::{Finding, Subject};

    #[test]
    fn every_environment_variable_of_an_option_is_reported() {
        use clap::CommandFactory;

        let mut n = 0;
        for verb in super::super::Cli::command().get_subcommands() {
            for name in verb.get_arguments().filter_map(|argument| argument.get_env()) {
                assert!(
                    wgpt::internals::doctor::VARIABLES.iter().any(|known| name == *known),
                    "{}",
                    name.display()
                );
                n += 1;
            }
        }
        assert!(n > 2);
    }

    #[test]
    fn the_exit_code_reflects_the_verdict() {
        let mut options = Options::new().unwrap();
        options.benchmark = Duration::ZERO;
        let nothing = |_| Vec::new();
        let cancel = CancelFlag::default();
        let mut report = doctor::run_among(&options, &nothing, &mut |_| {}, &cancel).unwrap();
        let mut code = |verdict, subject| {
            report.verdict = verdict;
            report.findings = vec![Finding { severity: verdict, subject, message: "a fault".to_owned() }];
            format!("{:?}", exit::code(conclude(&report)))
        };
        let expected = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
        assert_eq!(code(Verdict::Ok, Subject::Device), expected(0));
        assert_eq!(code(Verdict::Warnings, Subject::Kernels), expected(0));
        assert_eq!(code(Verdict::Broken, Subject::Kernels), expected(1));
        assert_eq!(code(Verdict::Broken, Subject::Adapter), expected(3));
    }
}
