//! The form and the destination of a command's results, with the same options in every command.

use std::path::{Path, PathBuf};

use serde::Serialize;
use wgpt::files::NewFile;
use wgpt::{Error, ModelFiles};

use super::exit::usage;
use super::new_file::create_distinct;
use super::output::{note, print};

/// The form of results that are text or JSON.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct JsonArg {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Where results go.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct FileArg {
    /// Write the results to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The options of a command that reports text or JSON.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub form: JsonArg,
    #[command(flatten)]
    pub file: FileArg,
}

/// The options of a command that reports tables.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct TableArgs {
    #[command(flatten)]
    pub form: JsonArg,
    /// Print CSV with a header instead of text
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    #[command(flatten)]
    pub file: FileArg,
}

/// The form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A markdown table.
    Markdown,
    /// Comma-separated values with a header, without the individual samples.
    Csv,
    /// JSON with all data.
    Json,
    /// One JSON object per line: only where a command offers it.
    JsonLines,
}

/// The values that `-o` took until version 0.2, when it named a format.
const OLD_FORMATS: [(&str, Format, &str); 4] = [
    ("md", Format::Markdown, "leave it out; a table is the default"),
    ("csv", Format::Csv, "write --csv"),
    ("json", Format::Json, "write --json"),
    ("jsonl", Format::JsonLines, "write --jsonl"),
];

impl ReportArgs {
    /// Opens the destination of the results. The file must not be one of `inputs` or of the
    /// model's files.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn open<'p>(
        &self,
        files: Option<&ModelFiles>,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Sink, Error> {
        Sink::open(self.file.output.as_deref(), files, inputs)
    }
}

impl TableArgs {
    /// Returns the form of the table and the file for it. `json_lines` is `None` if the
    /// command has no JSON lines, otherwise whether they were requested.
    ///
    /// A format after `-o`, its old meaning, still works and prints a note.
    ///
    /// # Errors
    /// A usage error if an old format contradicts a new option.
    pub fn resolve(&self, json_lines: Option<bool>) -> anyhow::Result<(Format, Option<&Path>)> {
        let requested = match (self.form.json, self.csv, json_lines) {
            (true, ..) => Some(Format::Json),
            (_, true, _) => Some(Format::Csv),
            (.., Some(true)) => Some(Format::JsonLines),
            _ => None,
        };
        let output = self.file.output.as_deref();
        let known = |format| format != Format::JsonLines || json_lines.is_some();
        let old = OLD_FORMATS
            .into_iter()
            .find(|&(name, format, _)| output == Some(Path::new(name)) && known(format));
        let Some((name, format, advice)) = old else {
            return Ok((requested.unwrap_or(Format::Markdown), output));
        };
        if requested.is_some_and(|requested| requested != format) {
            let message =
                format!("-o {name} is an old spelling of a format and contradicts another option: {advice}");
            return Err(usage(&message));
        }
        note(&format!(
            "note: -o {name} will name a file in the next release: {advice} (-o ./{name} already names that \
             file)"
        ));
        Ok((format, None))
    }
}

/// Where results go: stdout, or a file that appears only when it is complete.
pub struct Sink(Option<(NewFile, PathBuf)>);

impl Sink {
    /// Opens a file, or stdout for no path or `-`.
    ///
    /// # Errors
    /// [`Error::Input`] if the path is one of `inputs` or of the model's files;
    /// [`Error::Io`] if the file cannot be written.
    pub fn open<'p>(
        path: Option<&Path>,
        files: Option<&ModelFiles>,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Sink(None)) };
        if files.is_some_and(|files| files.contains(path)) {
            let message =
                format!("--output {}: this is a file of the model: name another file", path.display());
            return Err(Error::Input(message));
        }
        Ok(Sink(Some((create_distinct(path, inputs)?, path.to_owned()))))
    }

    /// Writes text.
    pub fn print(&mut self, text: &str) -> anyhow::Result<()> {
        match &mut self.0 {
            Some((file, _)) => Ok(file.write(text.as_bytes())?),
            None => print(text),
        }
    }

    /// Writes indented JSON.
    pub fn print_json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.print(&(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Gives a file its final name and reports it on stderr.
    pub fn finish(self) -> anyhow::Result<()> {
        if let Some((file, path)) = self.0 {
            file.finish()?;
            note(&format!("wrote {}", path.display()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        table: TableArgs,
    }

    fn parse(line: &str) -> TableArgs {
        Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).unwrap().table
    }

    #[test]
    fn a_format_is_distinguished_from_a_file() {
        let md = Format::Markdown;
        for (line, format, path) in [
            ("", md, None),
            ("--json", Format::Json, None),
            ("--csv -o a.json", Format::Csv, Some("a.json")),
            ("-o a.json", md, Some("a.json")),
            ("--output ./json", md, Some("./json")),
            ("-o json", Format::Json, None),
            ("-o json --json", Format::Json, None),
            ("--output csv", Format::Csv, None),
            ("-o md", md, None),
            ("-o jsonl", md, Some("jsonl")),
        ] {
            assert_eq!(parse(line).resolve(None).unwrap(), (format, path.map(Path::new)), "{line}");
        }
        assert_eq!(parse("-o jsonl").resolve(Some(false)).unwrap(), (Format::JsonLines, None));
        let file = parse("-o x");
        assert_eq!(file.resolve(Some(true)).unwrap(), (Format::JsonLines, Some(Path::new("x"))));
        let error = parse("-o json --csv").resolve(None).unwrap_err().to_string();
        assert!(error.contains("-o json is an old spelling"), "{error}");
        assert!(parse("-o csv").resolve(Some(true)).is_err());
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        let mut sink = Sink::open(Some(&path), None, []).unwrap();
        sink.print("a\n").unwrap();
        sink.print_json(&1).unwrap();
        assert!(!path.exists());
        sink.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n1\n");
        let error = Sink::open(Some(&path), None, [path.as_path()]).err().unwrap().to_string();
        assert!(error.contains("would overwrite the input"), "{error}");
    }
}
