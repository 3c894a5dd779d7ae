//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::worker::Source;

/// The text printed by `--help`.
pub const HELP: &str = "\
A writing window on wgpt: text with continuation at the cursor, surprise by token.

Usage: wgpt-desktop [OPTIONS]

  --model DIR         a model in Hugging Face layout; without it the last one, or the embedded one
  --random SHAPE      random weights of a shape (gpt2, gpt2-medium, ...): for --measure
  --adapter NAME      a part of an adapter's name, or its index
  --text TEXT         begins with this text in place of the saved one
  --state FILE|none   where text and settings are kept; none keeps nothing
  --log-events        writes what happens to stdout, a JSON object a line
  --measure SECONDS   generates for so long, prints frame times as JSON and closes
  --paced             measures frames as a writer sees them, not one after the other
  --budget MS|none    most milliseconds of a piece of GPU work (4)
  --max-submit MS     most milliseconds of a submit without a budget (50)
  --fault SECONDS     destroys the device after so long, to see the recovery
  -h, --help          this text";

/// The parsed command line.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// The model, if one was given.
    pub source: Option<Source>,
    /// A part of an adapter's name, or its index.
    pub adapter: Option<String>,
    /// The initial text, instead of the saved one.
    pub text: Option<String>,
    /// Where the state is stored.
    pub state: StateFile,
    /// Whether events are written to stdout.
    pub log_events: bool,
    /// How long to measure.
    pub measure: Option<Duration>,
    /// Whether frames are paced during a measurement.
    pub paced: bool,
    /// The frame budget; `Some(None)` for no budget.
    pub budget: Option<Option<f32>>,
    /// Time limit of a submit without a budget.
    pub max_submit: Option<Duration>,
    /// Destroys the device after this time.
    pub fault: Option<Duration>,
    /// Whether to print the help.
    pub help: bool,
}

/// Where text and settings are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateFile {
    /// In the platform's directory for application state.
    #[default]
    Platform,
    /// In this file.
    At(PathBuf),
    /// Nowhere.
    None,
}

impl Args {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// A message that names the argument and what was expected.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Args::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg}: a value is missing"));
            match arg.as_str() {
                "--model" => parsed.source = Some(Source::Directory(value()?.into())),
                "--random" => parsed.source = Some(Source::Random(value()?)),
                "--adapter" => parsed.adapter = Some(value()?),
                "--text" => parsed.text = Some(value()?),
                "--state" => {
                    let file = value()?;
                    parsed.state = if file == "none" { StateFile::None } else { StateFile::At(file.into()) };
                }
                "--paced" => parsed.paced = true,
                "--log-events" => parsed.log_events = true,
                "--measure" => parsed.measure = Some(seconds(&arg, &value()?)?),
                "--fault" => parsed.fault = Some(seconds(&arg, &value()?)?),
                "--budget" => parsed.budget = Some(budget(&value()?)?),
                "--max-submit" => {
                    parsed.max_submit = Some(seconds(&arg, &value()?)? / 1000);
                }
                "-h" | "--help" => parsed.help = true,
                _ => return Err(format!("{arg}: there is no such option (--help lists them)")),
            }
        }
        Ok(parsed)
    }
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("{name} {value:?}: expected a time, a number above 0"))
}

fn budget(value: &str) -> Result<Option<f32>, String> {
    if value == "none" {
        return Ok(None);
    }
    match value.parse() {
        Ok(ms) if (0.1..=1000.0).contains(&ms) => Ok(Some(ms)),
        _ => Err(format!("--budget {value:?}: expected milliseconds from 0.1 to 1000, or none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let args = parse("--measure 2.5 --budget none --random gpt2 --state none").unwrap();
        assert_eq!(args.measure, Some(Duration::from_millis(2500)));
        assert_eq!(args.budget, Some(None));
        assert_eq!(args.source, Some(Source::Random("gpt2".into())));
        assert_eq!(args.state, StateFile::None);
        assert_eq!(parse("--budget 4").unwrap().budget, Some(Some(4.0)));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (line, message) in [
            ("--budget 0", "--budget \"0\": expected milliseconds from 0.1 to 1000, or none"),
            ("--measure -1", "--measure \"-1\": expected a time, a number above 0"),
            ("--model", "--model: a value is missing"),
            ("--modell x", "--modell: there is no such option (--help lists them)"),
        ] {
            assert_eq!(parse(line).unwrap_err(), message);
        }
    }
}
