//! A comparison as markdown, CSV or JSON.

use serde::Serialize;

use super::{Comparison, Row, Verdict};
use crate::results::{Format, Sink};
use crate::table::{Table, csv_line, number, time};

/// A line of the CSV form: a pair of rows, or the name of a row that only one record has.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    verdict: &'static str,
    unit: Option<&'static str>,
    a: Option<f64>,
    b: Option<f64>,
    n_a: Option<usize>,
    n_b: Option<usize>,
    change_percent: Option<f64>,
    low_percent: Option<f64>,
    high_percent: Option<f64>,
}

pub fn write(format: Format, sink: &mut Sink, comparison: &Comparison) -> anyhow::Result<()> {
    match format {
        Format::Json | Format::JsonLines => sink.print_json(comparison),
        Format::Csv => sink.print(&csv(comparison)?),
        Format::Markdown => sink.print(&markdown(comparison)),
    }
}

fn csv(comparison: &Comparison) -> anyhow::Result<String> {
    let rows = comparison.rows.iter().map(|row| Line {
        name: &row.name,
        verdict: row.verdict.name(),
        unit: Some(row.unit),
        a: Some(row.a),
        b: Some(row.b),
        n_a: Some(row.n_a),
        n_b: Some(row.n_b),
        change_percent: Some(row.change_percent),
        low_percent: Some(row.low_percent),
        high_percent: Some(row.high_percent),
    });
    let single = |names: &'_ [String], verdict: &'static str| {
        let line = move |name: String| (name, verdict);
        names.iter().cloned().map(line).collect::<Vec<_>>()
    };
    let singles: Vec<(String, &'static str)> = [
        single(&comparison.only_in_a, "only in the first"),
        single(&comparison.only_in_b, "only in the second"),
    ]
    .concat();
    let singles = singles.iter().map(|(name, verdict)| Line {
        name,
        verdict,
        unit: None,
        a: None,
        b: None,
        n_a: None,
        n_b: None,
        change_percent: None,
        low_percent: None,
        high_percent: None,
    });
    let lines = rows.chain(singles).enumerate();
    lines.map(|(index, line)| csv_line(&line, index == 0)).collect()
}

fn markdown(comparison: &Comparison) -> String {
    let width = comparison.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let interval = match comparison.confidence_percent {
        95 => "95 % interval",
        99 => "99 % interval",
        _ => "interval",
    };
    let table = Table::new([
        ("row", i32::try_from(width).unwrap_or(i32::MAX)),
        ("first", -11),
        ("second", -11),
        ("change", -9),
        (interval, -20),
        ("verdict", 15),
    ]);
    let mut text = table.head();
    for row in &comparison.rows {
        let interval = match row.verdict {
            Verdict::TooFewSamples => "-".to_owned(),
            _ => format!("{} to {}", percent(row.low_percent), percent(row.high_percent)),
        };
        text += &table.row(&[
            row.name.clone(),
            figure(row, row.a),
            figure(row, row.b),
            percent(row.change_percent),
            interval,
            row.verdict.name().to_owned(),
        ]);
    }
    for (names, which) in [(&comparison.only_in_a, "first"), (&comparison.only_in_b, "second")] {
        if !names.is_empty() {
            text += &format!("\nonly in the {which} record:\n");
            text.extend(names.iter().map(|name| format!("- {name}\n")));
        }
    }
    text
}

fn figure(row: &Row, value: f64) -> String {
    if row.unit == "ns" { time(value) } else { format!("{} t/s", number(Some(value))) }
}

fn percent(value: f64) -> String {
    format!("{value:+.1} %")
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::*;

    fn comparison() -> Comparison {
        let row = |name: &str, verdict, unit| Row {
            name: name.into(),
            unit,
            a: 1500.0,
            b: 1650.0,
            n_a: 5,
            n_b: 5,
            change_percent: 10.0,
            low_percent: 8.0,
            high_percent: 12.04,
            method: Method::WelchLogs,
            verdict,
        };
        Comparison {
            confidence_percent: 95,
            warnings: Vec::new(),
            rows: vec![
                row("pp512", Verdict::Faster, "tokens/s"),
                row("gemv, a", Verdict::TooFewSamples, "ns"),
            ],
            only_in_a: vec!["tg8".into()],
            only_in_b: Vec::new(),
        }
    }

    #[test]
    fn markdown_aligns_columns_and_lists_unpaired_rows() {
        let text = markdown(&comparison());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[..4].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        for part in ["95 % interval", "1500 t/s", "+10.0 %", "+8.0 % to +12.0 %", "| faster "] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(lines[3].contains("1.50 us") && lines[3].contains("too few samples"), "{text}");
        assert!(text.ends_with("only in the first record:\n- tg8\n"), "{text}");
    }

    #[test]
    fn csv_has_one_line_per_name() {
        let text = csv(&comparison()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("name,verdict,unit,a,b,"));
        assert!(lines[2].starts_with("\"gemv, a\",too few samples,ns,1500.0,"), "{text}");
        assert_eq!(lines[3], "tg8,only in the first,,,,,,,,");
    }
}
