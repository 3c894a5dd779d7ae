//! HellaSwag (Zellers et al. 2019): four possible endings of a described scene.

use serde::Deserialize;
use serde_json::Value;

use super::file::TextFile;
use super::python::{capitalize, strip, without_brackets};
use super::question::{Convention, Question};
use wgpt::{Error, Result};

/// Number of endings per question.
const N_ENDINGS: usize = 4;
/// Lines per question in the text form: context, answer, endings.
const LINES: usize = 2 + N_ENDINGS;

/// A line of the published jsonl file. Other fields, such as `ind`, `split` and
/// `source_id`, are ignored.
#[derive(Deserialize)]
struct Raw {
    activity_label: Option<String>,
    ctx_a: Option<String>,
    ctx_b: Option<String>,
    ctx: Option<String>,
    endings: Vec<String>,
    label: Value,
}

/// Reads both forms; a file whose first line begins with a brace is jsonl.
///
/// # Errors
/// [`Error::Input`] with file and line for a missing, empty or out-of-range value, and
/// for the text form under convention llmc, since it lacks the raw context.
pub(super) fn read(file: &TextFile, convention: Convention) -> Result<Vec<Question>> {
    if file.text.trim_start().starts_with('{') {
        return file
            .json_lines()
            .map(|line| {
                let (line, raw) = line?;
                question(file, line, &raw, convention)?.checked(&file.path)
            })
            .collect();
    }
    if convention == Convention::Llmc {
        return Err(file.fault(
            1,
            "the six-line form has the contexts of lm-eval, not the raw contexts that llmc uses: use the \
             jsonl file",
        ));
    }
    six_lines(file)
}

fn question(file: &TextFile, line: usize, raw: &Raw, convention: Convention) -> Result<Question> {
    let field = |name: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| file.fault(line, format!("missing field `{name}`: expected a string")))
    };
    if raw.endings.len() != N_ENDINGS {
        return Err(file.fault(
            line,
            format!("{} endings: expected {N_ENDINGS}; correct the line or remove it", raw.endings.len()),
        ));
    }
    let gold = label(&raw.label).map_err(|found| {
        file.fault(
            line,
            format!("label = {found}: expected 0 to {} (the test split has no labels)", N_ENDINGS - 1),
        )
    })?;
    Ok(match convention {
        Convention::LmEval => {
            let (label, ctx_a) = (field("activity_label", &raw.activity_label)?, field("ctx_a", &raw.ctx_a)?);
            let ctx_b = capitalize(&field("ctx_b", &raw.ctx_b)?);
            let endings: Vec<_> = raw.endings.iter().map(|ending| preprocess(ending)).collect();
            Question::new(line, preprocess(&format!("{label}: {ctx_a} {ctx_b}")), &endings, gold)
        }
        Convention::Llmc => Question::new(line, field("ctx", &raw.ctx)?, &raw.endings, gold),
    })
}

/// Cleans a text like lm-eval's `preprocess`: WikiHow's pages leave brackets in it.
fn preprocess(text: &str) -> String {
    without_brackets(&strip(text).replace(" [title]", ". ")).replace("  ", " ")
}

/// Returns the label: a number, or a number as text as in the hub's copy. The error is
/// the invalid value as text.
fn label(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| value.to_string())
}

fn six_lines(file: &TextFile) -> Result<Vec<Question>> {
    let lines: Vec<&str> = file.text.lines().collect();
    let n = lines.len() - lines.iter().rev().take_while(|line| line.trim().is_empty()).count();
    if !n.is_multiple_of(LINES) {
        return Err(file.fault(
            n,
            format!(
                "the file ends within a question: expected {LINES} lines per question (context, answer, \
                 {N_ENDINGS} endings)"
            ),
        ));
    }
    lines[..n]
        .chunks(LINES)
        .enumerate()
        .map(|(i, lines)| {
            let line = i * LINES + 1;
            let gold = lines[1].trim().parse().map_err(|_| -> Error {
                file.fault(
                    line + 1,
                    format!(
                        "{:?} is not an answer: expected 0 to {} on the second of the {LINES} lines of a \
                         question",
                        lines[1],
                        N_ENDINGS - 1
                    ),
                )
            })?;
            if gold >= N_ENDINGS {
                return Err(
                    file.fault(line + 1, format!("the answer is {gold}: expected 0 to {}", N_ENDINGS - 1))
                );
            }
            if let Some(empty) = lines.iter().position(|line| line.trim().is_empty()) {
                return Err(
                    file.fault(line + empty, "the line is empty: every line of a question needs text")
                );
            }
            let endings: Vec<String> = lines[2..].iter().map(|&line| line.to_owned()).collect();
            Ok(Question::new(line, lines[0].to_owned(), &endings, gold))
        })
        .collect()
}
