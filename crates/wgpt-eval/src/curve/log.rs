//! Logs of training runs: JSON, JSON lines, CSV.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::loss::{Loss, word};
use super::{Curve, CurvePoint};
use wgpt::files::read_bounded;
use wgpt::{Error, Result};

/// Maximum size of a log in bytes: a million lines as transformers writes them.
const BYTES_MAX: u64 = 256 << 20;

/// Meaning of an entry's field or of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Step,
    Tokens,
    Train,
    Validation,
}

/// Field names that trainers use.
const FIELDS: &[(&str, Field)] = &[
    ("step", Field::Step),
    ("iter", Field::Step),
    ("iteration", Field::Step),
    ("tokens", Field::Tokens),
    ("num_input_tokens_seen", Field::Tokens),
    ("train", Field::Train),
    ("train_loss", Field::Train),
    ("training_loss", Field::Train),
    ("loss", Field::Train),
    ("validation", Field::Validation),
    ("validation_loss", Field::Validation),
    ("val", Field::Validation),
    ("val_loss", Field::Validation),
    ("eval_loss", Field::Validation),
];

fn field(name: &str) -> Option<Field> {
    FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
}

/// Reads a log of losses in nats per token. The content decides which of these formats it
/// is:
///
/// - **JSON**: an array of entries, or an object that contains one under `log_history`
///   (transformers' `trainer_state.json`), `points` or `results` (printed by `wgpt curve
///   --json`, also within a record);
/// - **JSON lines**: one entry per line;
/// - **CSV** with a header line; an empty cell means no loss.
///
/// An entry has a `step` (or `iter`, `iteration`) and at least one loss: `train`,
/// `train_loss`, `training_loss` or `loss` for the training text, and `validation`,
/// `validation_loss`, `val`, `val_loss` or `eval_loss` for held-out text. `tokens` or
/// `num_input_tokens_seen` gives the number of tokens trained on so far. Other fields,
/// entries without a loss, and the summary of a run (with `train_runtime`) are ignored.
/// NaN and Infinity are valid losses. An object around the entries may contain
/// `tokens_per_step` and `n_parameters`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Input`], which names the file and usually the line, if the
/// text is in none of these formats, a field is missing or not a number, or a step has
/// two losses of one kind.
pub fn read_log(path: &Path) -> Result<Curve> {
    let name = path.display().to_string();
    let bytes = read_bounded(path, BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Error::input(format!("{name}: line {line} is not UTF-8 text: convert the file to UTF-8"))
    })?;
    parse_log(&name, text)
}

/// Parses the text of a log as [`read_log`] does; `name` denotes the file in messages.
///
/// # Errors
/// [`Error::Input`], as for [`read_log`].
pub fn parse_log(name: &str, text: &str) -> Result<Curve> {
    let failed = |message: String| Error::input(format!("{name}: {message}"));
    // Windows editors write a byte order mark at the start of a text.
    let text = text.trim_start_matches('\u{feff}');
    let log = if text.trim_start().starts_with(['{', '[']) { json(text) } else { csv(text) };
    let log = log.map_err(failed)?;
    if log.points.is_empty() {
        return Err(failed(
            "the log has no losses: expected entries with step and train or validation, as JSON, JSON lines \
             or CSV"
                .to_owned(),
        ));
    }
    let mut curve = Curve::new(log.points).map_err(|error| failed(error.to_string()))?;
    curve.tokens_per_step = log.tokens_per_step.or(curve.tokens_per_step);
    curve.n_parameters = log.n_parameters;
    Ok(curve)
}

/// Content of a JSON value in a log: one or more entries, and sizes of the run.
#[derive(Default)]
struct Log {
    points: Vec<CurvePoint>,
    tokens_per_step: Option<f64>,
    n_parameters: Option<u64>,
}

impl Log {
    fn add(&mut self, part: Log) {
        self.points.extend(part.points);
        self.tokens_per_step = self.tokens_per_step.or(part.tokens_per_step);
        self.n_parameters = self.n_parameters.or(part.n_parameters);
    }
}

fn json(text: &str) -> Result<Log, String> {
    let text = with_quoted_words(text);
    let mut log = Log::default();
    for part in serde_json::Deserializer::from_str(&text).into_iter::<Log>() {
        // The messages of serde_json end with line and column.
        log.add(part.map_err(|error| error.to_string())?);
    }
    Ok(log)
}

/// Quotes NaN and Infinity, which Python writes although they are not JSON. Line numbers
/// do not change.
fn with_quoted_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let found = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word));
        if let (false, Some(word)) = (in_string, found) {
            out.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

impl<'de> Deserialize<'de> for Log {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LogVisitor)
    }
}

struct LogVisitor;

impl<'de> Visitor<'de> for LogVisitor {
    type Value = Log;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log entry (an object with step and losses), or an array of log entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Log, A::Error> {
        let mut log = Log::default();
        while let Some(part) = parts.next_element::<Log>()? {
            log.add(part);
        }
        Ok(log)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Log, A::Error> {
        let (mut log, mut entry) = (Log::default(), Entry::default());
        let mut summary = false;
        while let Some(key) = map.next_key::<String>()? {
            match (field(&key), key.as_str()) {
                (Some(Field::Step), _) => entry.step = Some(map.next_value::<Whole>()?.0),
                (Some(Field::Tokens), _) => entry.tokens = Some(map.next_value::<Whole>()?.0),
                (Some(field), name) => {
                    let Loss(loss) = map.next_value()?;
                    entry.set(field, loss, name).map_err(A::Error::custom)?;
                }
                (None, "log_history" | "points" | "results") => log.add(map.next_value()?),
                (None, "tokens_per_step") => log.tokens_per_step = map.next_value()?,
                (None, "n_parameters") => log.n_parameters = map.next_value()?,
                (None, name) => {
                    summary |= name == "train_runtime";
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !summary {
            log.points.extend(entry.point().map_err(A::Error::custom)?);
        }
        Ok(log)
    }
}

/// One entry of a log.
#[derive(Default)]
struct Entry {
    step: Option<u64>,
    tokens: Option<u64>,
    train: Option<f64>,
    validation: Option<f64>,
}

impl Entry {
    fn set(&mut self, field: Field, loss: Option<f64>, name: &str) -> Result<(), String> {
        let place = if field == Field::Train { &mut self.train } else { &mut self.validation };
        if place.is_some() && loss.is_some() {
            return Err(format!("{name:?} is a second loss of the same kind in one entry"));
        }
        *place = place.or(loss);
        Ok(())
    }

    /// Returns the point, or `None` without a loss.
    fn point(self) -> Result<Option<CurvePoint>, String> {
        let Entry { step, tokens, train, validation } = self;
        if train.is_none() && validation.is_none() {
            return Ok(None);
        }
        let step = step.ok_or("missing field `step` in an entry with a loss")?;
        Ok(Some(CurvePoint { step, tokens, train, validation }))
    }
}

/// A whole number, also if a spreadsheet wrote it as 100.0.
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        whole(value)
            .map(Whole)
            .ok_or_else(|| D::Error::custom(format!("{value} is not a whole number, 0 or more")))
    }
}

fn whole(value: f64) -> Option<u64> {
    // Above 2^53 an f64 cannot represent every whole number.
    (value >= 0.0 && value.fract() == 0.0 && value <= 2f64.powi(53)).then_some(value as u64)
}

fn csv(text: &str) -> Result<Log, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let columns: Vec<(usize, Field)> =
        header.iter().enumerate().filter_map(|(i, name)| Some((i, field(name)?))).collect();
    let has = |wanted: &[Field]| columns.iter().any(|(_, field)| wanted.contains(field));
    if !has(&[Field::Step]) || !has(&[Field::Train, Field::Validation]) {
        return Err(format!(
            "line 1: expected JSON, or CSV whose header names step and train or validation, found {:?}",
            text.lines().next().unwrap_or_default().chars().take(80).collect::<String>()
        ));
    }
    let mut log = Log::default();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let point = row(&record, &header, &columns).map_err(|message| format!("line {line}: {message}"))?;
        log.points.extend(point);
    }
    Ok(log)
}

fn row(
    record: &csv::StringRecord,
    header: &csv::StringRecord,
    columns: &[(usize, Field)],
) -> Result<Option<CurvePoint>, String> {
    let mut entry = Entry::default();
    for &(i, field) in columns {
        let (name, cell) = (&header[i], &record[i]);
        if cell.is_empty() {
            continue;
        }
        let number = word(cell).or_else(|| cell.parse::<f64>().ok());
        let number = number.ok_or_else(|| format!("{name} is {cell:?}, expected a number"))?;
        match field {
            Field::Train | Field::Validation => entry.set(field, Some(number), name)?,
            Field::Step | Field::Tokens => {
                let number = whole(number);
                let number =
                    number.ok_or_else(|| format!("{name} is {cell}, expected a whole number, 0 or more"))?;
                let place = if field == Field::Step { &mut entry.step } else { &mut entry.tokens };
                *place = Some(number);
            }
        }
    }
    entry.point()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Losses = (u64, Option<u64>, Option<f64>, Option<f64>);

    fn losses(text: &str) -> Vec<Losses> {
        let curve = parse_log("log", text).unwrap();
        curve.points().iter().map(|p| (p.step, p.tokens, p.train, p.validation)).collect()
    }

    fn error(text: &str) -> String {
        let error = parse_log("run.log", text).unwrap_err().to_string();
        error.strip_prefix("run.log: ").unwrap_or_else(|| panic!("{error}")).to_owned()
    }

    #[test]
    fn every_format_gives_the_same_losses() {
        let expected = [(100, None, Some(3.5), None), (200, None, Some(3.0), Some(3.25))];
        for text in [
            r#"[{"step": 100, "loss": 3.5}, {"step": 200, "train_loss": 3, "val_loss": 3.25, "lr": [1]}]"#,
            "{\"iter\": 100, \"train\": 3.5}\n{\"iter\": 200.0, \"train\": 3.0, \"validation\": 3.25}\n",
            "step,train,validation\n100,3.5,\n200,3.0,3.25\n",
            "\u{feff}lr, iteration, training_loss, eval_loss\r\n1e-3, 100, 3.5,\r\n1e-3, 200, 3, 3.25\r\n",
            r#"{"date": "x", "results": {"points": [{"step": 200, "train": 3.0, "validation": 3.25},
                {"step": 100, "train": 3.5, "validation": null}], "train_text": {"step": true}}}"#,
        ] {
            assert_eq!(losses(text), expected, "{text}");
        }
    }

    #[test]
    fn transformers_state_is_read() {
        let text = r#"{"best_metric": 3.1, "epoch": 2.0, "global_step": 20, "num_input_tokens_seen": 900,
            "log_history": [
              {"epoch": 1.0, "grad_norm": 1.5, "learning_rate": 1e-4, "loss": 3.4, "step": 10},
              {"epoch": 1.0, "eval_loss": 3.5, "eval_runtime": 2.0, "step": 10},
              {"epoch": 2.0, "loss": NaN, "step": 20, "num_input_tokens_seen": 800},
              {"epoch": 2.0, "eval_loss": -Infinity, "step": 20},
              {"epoch": 2.0, "step": 20, "total_flos": 1e12, "train_loss": 3.2, "train_runtime": 99.0}
            ]}"#;
        let curve = parse_log("trainer_state.json", text).unwrap();
        let [first, last] = curve.points() else { panic!("{curve:?}") };
        assert_eq!((first.step, first.train, first.validation), (10, Some(3.4), Some(3.5)));
        assert!(last.train.unwrap().is_nan() && last.validation == Some(f64::NEG_INFINITY));
        assert_eq!(curve.tokens_per_step, Some(40.0));
    }

    #[test]
    fn a_record_contains_tokens_and_parameters() {
        let text =
            r#"{"tokens_per_step": 4096.0, "n_parameters": 1000, "points": [{"step": 5, "train": 1}]}"#;
        let curve = parse_log("log", text).unwrap();
        assert_eq!((curve.tokens_per_step, curve.n_parameters), (Some(4096.0), Some(1000)));
    }

    #[test]
    fn csv_values_may_be_nan_or_infinite() {
        let found = losses("step,train,tokens\n1,nan,\n2,inf,64\n3,-Infinity,\n4,,\n");
        assert!(found[0].2.unwrap().is_nan());
        let rest = [(2, Some(64), Some(f64::INFINITY), None), (3, None, Some(f64::NEG_INFINITY), None)];
        assert_eq!(found[1..], rest);
    }

    #[test]
    fn words_inside_strings_are_unchanged() {
        let text = r#"[{"name": "a \"NaN\" \\", "x": [NaN, -Infinity], "Infinity": Infinity}]"#;
        let expected = r#"[{"name": "a \"NaN\" \\", "x": ["NaN", "-Infinity"], "Infinity": "Infinity"}]"#;
        assert_eq!(with_quoted_words(text), expected);
    }

    #[test]
    fn errors_name_the_log_and_its_line() {
        for (text, parts) in [
            ("[{\"step\": 1, \"loss\": 2.0},\n {\"loss\": 2.0}]", &["missing field `step`", "line 2"][..]),
            ("{\"step\": 1, \"loss\": 2.0}\n{\"step\": 2, \"lo", &["line 2"]),
            ("{\"step\": 1, \"loss\": \"high\"}", &["\"high\"", "expected a loss", "line 1"]),
            ("\n{\"step\": -1, \"loss\": 1}", &["-1 is not a whole number", "line 2"]),
            ("{\"step\": 1.5, \"loss\": 1}", &["1.5 is not a whole number"]),
            (
                "[{\"step\": 1, \"loss\": 1, \"train\": 2}]",
                &["\"train\" is a second loss of the same kind", "line 1"],
            ),
            ("[1, 2]", &["integer `1`, expected a log entry", "line 1"]),
            ("[]", &["the log has no losses"]),
            ("{\"step\": 3}", &["the log has no losses"]),
            ("", &["line 1", "expected JSON, or CSV", "\"\""]),
            ("Once upon a time\n", &["line 1", "found \"Once upon a time\""]),
            ("step,train\n1,2.0\n2,two\n", &["line 3: train is \"two\", expected a number"]),
            ("step,train\n1,2.0\n-2,1\n", &["line 3: step is -2"]),
            ("step,train\n,2.0\n", &["line 2: missing field `step`"]),
            ("step,train\n1,2.0,3\n", &["line: 2", "3 fields"]),
            ("step,train\n1,2.0\n1,2.5\n", &["step 1 has two training losses, 2 and 2.5"]),
        ] {
            let error = error(text);
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn logs_that_are_not_utf8_are_refused() {
        let path = std::env::temp_dir().join(format!("wgpt-log-{}.csv", std::process::id()));
        std::fs::write(&path, b"step,train\n1,\xff\n").unwrap();
        let error = read_log(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.ends_with(".csv: line 2 is not UTF-8 text: convert the file to UTF-8"), "{error}");
        assert!(read_log(Path::new("no/such/log")).is_err());
    }
}
