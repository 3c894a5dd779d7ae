//! A curve as a table and as JSON.

use serde::Serialize;
use wgpt_eval::curve::{Budget, Curve, CurvePoint, Findings};

use super::score::Evaluation;
use crate::output::{count, labelled};
use crate::run_info::VERSION;
use crate::table::Table;

/// All results for a run.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub curve: Curve,
    #[serde(flatten)]
    pub findings: Findings,
    pub budget: Option<Budget>,
    /// The losses in the run's own log, in addition to those of its checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Curve>,
    /// How the checkpoints were evaluated; `None` if the losses come from a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    wgpt_version: &'static str,
}

impl Report {
    /// Builds a report. The log and the curve belong to one run, so each takes the
    /// other's tokens per step if it has none.
    pub fn new(mut curve: Curve, mut log: Option<Curve>, evaluation: Option<Evaluation>) -> Self {
        if let Some(log) = &mut log {
            curve.tokens_per_step = curve.tokens_per_step.or(log.tokens_per_step);
            log.tokens_per_step = log.tokens_per_step.or(curve.tokens_per_step);
        }
        let (findings, budget) = (curve.diagnose(), curve.budget());
        Report { curve, findings, budget, log, evaluation, wgpt_version: VERSION }
    }
}

/// Formats the line about tokens and parameters.
pub fn budget_line(budget: &Budget) -> String {
    let Budget { tokens, n_parameters, tokens_per_parameter, chinchilla_ratio } = *budget;
    format!(
        "{tokens_per_parameter:.1} tokens per parameter ({} tokens, {} parameters); compute-optimal is about \
         {chinchilla_ratio} (Hoffmann et al. 2022)",
        count(tokens),
        count(n_parameters)
    )
}

/// Formats the table, followed by the verdict.
pub fn text(report: &Report) -> String {
    let table = Table::new([
        ("step", -7),
        ("tokens", -9),
        ("train loss", -10),
        ("validation loss", -10),
        ("train ppl", -9),
        ("validation ppl", -9),
    ]);
    let rows = report.curve.points().iter().map(|point| table.row(&cells(&report.curve, point)));
    let mut lines = vec![("verdict", report.findings.diagnosis.to_string())];
    lines.extend(report.findings.spikes.iter().map(|spike| ("", spike.to_string())));
    lines.extend(report.budget.as_ref().map(|budget| ("budget", budget_line(budget))));
    lines.extend(report.evaluation.iter().flat_map(Evaluation::lines));
    format!("{}{}\n{}", table.head(), rows.collect::<String>(), labelled(&lines, 0))
}

fn cells(curve: &Curve, point: &CurvePoint) -> [String; 6] {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    [
        point.step.to_string(),
        curve.tokens(point).map_or("-".to_owned(), count),
        number(point.train, 4),
        number(point.validation, 4),
        number(point.train.map(f64::exp), 2),
        number(point.validation.map(f64::exp), 2),
    ]
}

#[cfg(test)]
mod tests {
    use wgpt_eval::curve::parse_log;

    use super::*;

    #[test]
    fn a_log_becomes_a_table_and_a_verdict() {
        let curve =
            "step,train,validation,tokens\n10,3,,\n20,2.5,2.75,2000000\n30,nan,2.5,\n40,2.25,2.375,\n";
        let mut curve = parse_log("log", curve).unwrap();
        curve.n_parameters = Some(1_000_000);
        let found = text(&Report::new(curve, None, None));
        let lines: Vec<_> = found.lines().collect();
        assert_eq!(lines.len(), 2 + 4 + 1 + 3, "{found}");
        assert!(
            lines[2].starts_with("|      10 |    1.00 M |     3.0000 |               - |     20.09 |"),
            "{found}"
        );
        assert!(lines[4].contains("NaN"), "{found}");
        assert_eq!(lines[7], "verdict  too few points: 3, but a verdict needs 4");
        assert_eq!(lines[8], "         spike at step 30: training loss NaN, 2.250 around it");
        let budget = "budget   4.0 tokens per parameter (4.00 M tokens, 1.00 M parameters); compute-optimal \
                      is about 20";
        assert!(lines[9].starts_with(budget), "{found}");
    }
}
