//! The result of `wgpt eval` as text.

use wgpt_eval::tasks::{Cost, Estimate, Figures, Gain, Sharing, TaskReport};

use super::output::{duration, labelled, plural};
use super::table::Table;

/// Formats the figures and how they were obtained. MMLU's tables of subjects and groups
/// come first.
pub fn text(report: &TaskReport) -> String {
    let mut rows = vec![("task", heading(report)), ("acc", estimate(report.figures.acc))];
    let norm = report.figures.acc_norm.map(|norm| ("acc_norm", estimate(norm)));
    let perplexity = report.figures.perplexity.map(|perplexity| ("perplexity", estimate(perplexity)));
    rows.extend(norm.into_iter().chain(perplexity));
    rows.push(("questions", questions(report)));
    if report.n_short_of_shots > 0 {
        let questions = plural(report.n_short_of_shots, "question");
        let (shots, context) = (report.shots_dropped, report.context);
        rows.push(("shots dropped", format!("{shots} in {questions}, to fit the context of {context}")));
    }
    if report.n_truncated > 0 {
        let (questions, context) = (plural(report.n_truncated, "question"), report.context);
        rows.push((
            "truncated",
            format!("the beginning of {questions} was left out, to fit the context of {context}"),
        ));
    }
    rows.extend(cost(&report.cost));
    rows.push(("model sha256", report.model_sha256.clone()));
    rows.push(("data sha256", report.data_sha256.clone()));
    tables(report) + &labelled(&rows, 0)
}

fn heading(report: &TaskReport) -> String {
    format!("{}, convention {}, {}", report.task, report.convention.name(), plural(report.shots, "shot"))
}

fn questions(report: &TaskReport) -> String {
    let mut text = format!("{} of {}", report.figures.n, report.n_questions);
    if report.limit.is_some() {
        text += &format!(", drawn with seed {}", report.seed);
    }
    if report.n_resumed > 0 {
        text += &format!("; {} were already answered", report.n_resumed);
    }
    text
}

fn cost(cost: &Cost) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if cost.tokens == 0 {
        return rows;
    }
    let (tokens, apart) = (cost.tokens, cost.tokens_apart);
    rows.push(match cost.sharing {
        Sharing::Apart => ("tokens", format!("{tokens} computed, one context per ending")),
        Sharing::Shared | Sharing::Measured => (
            "tokens",
            format!(
                "{tokens} computed; {apart} with one context per ending, {:.2} times as many",
                apart as f64 / tokens as f64
            ),
        ),
    });
    rows.push(("time", format!("{}, {:.0} tokens/s", duration(cost.seconds), tokens as f64 / cost.seconds)));
    if let Some(Gain { gain, gain_of_tokens, seconds_shared, seconds_apart, largest_difference, .. }) =
        cost.measured
    {
        let (shared, apart) = (duration(seconds_shared), duration(seconds_apart));
        rows.push((
            "sharing",
            format!(
                "{shared} with sharing, {apart} without: {gain:.2} times as fast, {:.0}% of the \
                 {gain_of_tokens:.2} expected from the token counts; sums differ by at most \
                 {largest_difference:.1e}",
                100.0 * gain / gain_of_tokens
            ),
        ));
    }
    rows
}

fn estimate(Estimate { value, stderr }: Estimate) -> String {
    stderr.map_or_else(|| format!("{value:.4}"), |stderr| format!("{value:.4} +/- {stderr:.4}"))
}

fn tables(report: &TaskReport) -> String {
    if report.subjects.is_empty() {
        return String::new();
    }
    let normalized = report.figures.acc_norm.is_some();
    let mut lines = Lines::new("subject", normalized);
    for subject in &report.subjects {
        let group = subject.group.map_or("-", |group| group.name());
        lines.add(&subject.subject, group, &subject.figures);
    }
    let subjects = lines.text;
    let mut lines = Lines::new("group", normalized);
    for group in &report.groups {
        let of = plural(group.n_subjects, "subject");
        lines.add(group.group.name(), &of, &group.figures);
    }
    format!("{subjects}\n{}\n", lines.text)
}

/// A table of figures; it has a column for acc_norm if the task has that figure.
struct Lines {
    normalized: bool,
    text: String,
}

impl Lines {
    fn new(what: &'static str, normalized: bool) -> Self {
        let of = if what == "group" { "of" } else { "group" };
        let text = if normalized { wide(what, of).head() } else { narrow(what, of).head() };
        Lines { normalized, text }
    }

    fn add(&mut self, name: &str, of: &str, figures: &Figures) {
        let [name, of, n] = [name.to_owned(), of.to_owned(), figures.n.to_string()];
        let acc = estimate(figures.acc);
        self.text += &if self.normalized {
            let norm = figures.acc_norm.map_or_else(|| "-".to_owned(), estimate);
            wide("", "").row(&[name, of, n, acc, norm])
        } else {
            narrow("", "").row(&[name, of, n, acc])
        };
    }
}

/// Width of the longest subject, high_school_government_and_politics.
const NAME: i32 = 35;
const OF: i32 = 15;
const ESTIMATE: i32 = -17;

fn narrow(what: &'static str, of: &'static str) -> Table<4> {
    Table::new([(what, NAME), (of, OF), ("n", -5), ("acc", ESTIMATE)])
}

fn wide(what: &'static str, of: &'static str) -> Table<5> {
    Table::new([(what, NAME), (of, OF), ("n", -5), ("acc", ESTIMATE), ("acc_norm", ESTIMATE)])
}
