//! `wgpt bench compare`: the changes between two records.

mod output;
mod statistics;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use wgpt::Error;
use wgpt::internals::bench::{mean, quantile};

use super::record_file::Records;
use crate::exit::Outcome;
use crate::output::note;
use crate::results::{Sink, TableArgs};
use statistics::Method;

/// Compare two records row by row, with a confidence interval for each change
///
/// A record is the JSON output of `wgpt bench model` or `wgpt bench kernels`, or a file
/// of benches/record or gpu_bench.sh that contains it. Rows of the same measurement are
/// paired. The change is a change in speed: +10 % is faster. If both rows have at least
/// 20 samples, the interval is a bootstrap of the ratio of medians. Its seed is fixed, so
/// the same files give the same result. Otherwise it is Welch's t interval on the
/// logarithms. An interval that contains 0 % counts as no difference. At 95 %, about one
/// in 20 unchanged rows shows a difference by chance.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench compare before.json after.json
  wgpt bench compare before.json after.json --confidence 99 --csv")]
pub struct Args {
    /// Baseline record
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Record to compare with the baseline
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Probability in percent that an interval contains the true change
    #[arg(long, value_name = "PERCENT", default_value_t = 95)]
    #[arg(value_parser = clap::value_parser!(u32).range(50..=99))]
    confidence: u32,
    #[command(flatten)]
    table: TableArgs,
}

/// The verdict on a row of two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Faster,
    Slower,
    NoDifference,
    /// One of the two has a single sample, which has no spread.
    TooFewSamples,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifference => "no difference",
            Verdict::TooFewSamples => "too few samples",
        }
    }
}

/// A row that both records have.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    /// "tokens/s" or "ns".
    unit: &'static str,
    a: f64,
    b: f64,
    n_a: usize,
    n_b: usize,
    change_percent: f64,
    low_percent: f64,
    high_percent: f64,
    method: Method,
    verdict: Verdict,
}

/// The comparison of two records.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Comparison {
    confidence_percent: u32,
    warnings: Vec<String>,
    rows: Vec<Row>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

/// Runs `wgpt bench compare`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (format, output) = args.table.resolve(None)?;
    let (a, b) = (Records::read(&args.a)?, Records::read(&args.b)?);
    let mut sink = Sink::open(output, None, [args.a.as_path(), args.b.as_path()])?;
    let comparison = compare(&a, &b, args.confidence)?;
    for warning in &comparison.warnings {
        note(&format!("warning: {warning}"));
    }
    output::write(format, &mut sink, &comparison)?;
    sink.finish()?;
    Ok(Outcome::Done)
}

/// Samples of one row.
#[derive(Clone, Debug, PartialEq)]
struct Samples {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

impl Samples {
    /// Converts the samples to speeds, so that larger values are faster.
    fn speeds(&self) -> Vec<f64> {
        let inverse = self.unit == "ns";
        // A time below the clock's resolution counts as one nanosecond.
        self.values.iter().map(|&x| if inverse { 1.0 / x.max(1.0) } else { x.max(1e-9) }).collect()
    }

    /// Returns the figure that the reports show: llama-bench's mean, or the median.
    fn figure(&self) -> f64 {
        if self.unit == "ns" { quantile(&self.values, 0.5) } else { mean(&self.values) }
    }
}

fn compare(a: &Records, b: &Records, confidence: u32) -> Result<Comparison, Error> {
    let (samples_a, mut samples_b) = (samples(a), samples(b));
    let mut rows = Vec::new();
    let mut only_in_a = Vec::new();
    for a in samples_a {
        // Takes the first row of the same name, so that repeated rows pair in order.
        match samples_b.iter().position(|b| b.name == a.name && b.unit == a.unit) {
            Some(index) => rows.push(row(&a, &samples_b.remove(index), confidence)),
            None => only_in_a.push(a.name),
        }
    }
    let only_in_b: Vec<String> = samples_b.into_iter().map(|b| b.name).collect();
    if rows.is_empty() {
        let first = |names: &[String]| names.first().cloned().unwrap_or_default();
        return Err(Error::Input(format!(
            "the records have no row in common: the first has {} rows, such as {:?}, the second has {}, such \
             as {:?}: compare records of the same models or kernels",
            only_in_a.len(),
            first(&only_in_a),
            only_in_b.len(),
            first(&only_in_b)
        )));
    }
    Ok(Comparison { confidence_percent: confidence, warnings: warnings(a, b), rows, only_in_a, only_in_b })
}

fn row(a: &Samples, b: &Samples, confidence: u32) -> Row {
    let found = statistics::ratio(&a.speeds(), &b.speeds(), f64::from(confidence) / 100.0);
    let (low, high) = found.interval;
    let verdict = match found.method {
        Method::None => Verdict::TooFewSamples,
        _ if low > 1.0 => Verdict::Faster,
        _ if high < 1.0 => Verdict::Slower,
        _ => Verdict::NoDifference,
    };
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    Row {
        name: a.name.clone(),
        unit: a.unit,
        a: a.figure(),
        b: b.figure(),
        n_a: a.values.len(),
        n_b: b.values.len(),
        change_percent: percent(found.ratio),
        low_percent: percent(low),
        high_percent: percent(high),
        method: found.method,
        verdict,
    }
}

/// Returns all rows. A name states what was measured, without the machine.
fn samples(records: &Records) -> Vec<Samples> {
    let models = records.models.iter().filter(|row| !row.samples_ts.is_empty()).map(|row| {
        let mut name = format!("{} {} {}", row.model, row.dtype, row.test);
        if row.kv_dtype != row.dtype {
            name += &format!(" kv {}", row.kv_dtype);
        }
        for (set, word) in [(row.deterministic, " deterministic"), (row.features_floor, " floor")] {
            if set {
                name += word;
            }
        }
        Samples { name, unit: "tokens/s", values: row.samples_ts.clone() }
    });
    let kernels = records.kernels.iter().flat_map(|record| &record.kernels);
    let kernels = kernels.filter(|row| !row.samples_ns.is_empty()).map(|row| {
        let figures = &row.figures;
        let model = if figures.model.is_empty() { String::new() } else { format!("{}: ", figures.model) };
        let name = format!("{model}{} [{}] {}", figures.case, figures.variant, figures.cache.name());
        Samples { name, unit: "ns", values: row.samples_ns.iter().map(|&ns| ns as f64).collect() }
    });
    models.chain(kernels).collect()
}

/// Describes the circumstances that differ between the two records, with their values.
fn warnings(a: &Records, b: &Records) -> Vec<String> {
    let (a, b) = (circumstances(a), circumstances(b));
    let mut warnings = Vec::new();
    for (thing, in_a) in &a {
        let in_b = &b[thing];
        if in_a != in_b {
            warnings.push(format!(
                "{thing} differs: {} in the first record, {} in the second",
                in_a.join(", "),
                in_b.join(", ")
            ));
        }
    }
    warnings
}

/// Returns the distinct values of each circumstance that rows should share.
fn circumstances(records: &Records) -> BTreeMap<&'static str, Vec<String>> {
    let models = records.models.iter().map(|row| {
        [
            ("adapter", format!("{} ({})", row.device, row.backend)),
            ("driver", format!("{} {}", row.driver, row.driver_info)),
            ("kernel hash", row.kernel_hash.clone()),
            ("wgpu", row.wgpu_version.clone()),
            ("features floor", row.features_floor.to_string()),
            ("clock", "wall".to_owned()),
        ]
    });
    let kernels = records.kernels.iter().map(|record| {
        let header = &record.header;
        [
            ("adapter", format!("{} ({})", header.device, header.backend)),
            ("driver", format!("{} {}", header.driver, header.driver_info)),
            ("kernel hash", header.kernel_hash.clone()),
            ("wgpu", header.wgpu_version.clone()),
            ("features floor", header.features_floor.to_string()),
            ("clock", record.roofline.clock.name().to_owned()),
        ]
    });
    let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (thing, value) in models.chain(kernels).flatten() {
        let values = all.entry(thing).or_default();
        let value = if value.is_empty() { "unknown".to_owned() } else { value };
        if !values.contains(&value) {
            values.push(value);
        }
    }
    all.values_mut().for_each(|values| values.sort());
    all
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use wgpt::internals::bench::Cache;

    use super::super::record_file::ModelRow;
    use super::super::record_file::tests::{kernel_record, model_row};
    use super::*;

    fn models(rows: &[Value]) -> Records {
        let row = |value: &Value| serde_json::from_value::<ModelRow>(value.clone()).unwrap();
        Records { models: rows.iter().map(row).collect(), ..Records::default() }
    }

    #[test]
    fn rows_are_paired_by_name_and_the_rest_is_listed() {
        let a = models(&[model_row(512, 0, 0, &[100.0, 101.0, 99.0]), model_row(0, 8, 0, &[10.0, 10.1])]);
        let b = models(&[
            model_row(0, 8, 64, &[9.0, 9.1]),
            model_row(0, 8, 0, &[10.05, 10.04]),
            model_row(512, 0, 0, &[150.0, 151.0, 149.0]),
        ]);
        let found = compare(&a, &b, 95).unwrap();
        let names: Vec<_> = found.rows.iter().map(|row| (row.name.as_str(), row.verdict)).collect();
        assert_eq!(names, [("gpt2 f16 pp512", Verdict::Faster), ("gpt2 f16 tg8", Verdict::NoDifference)]);
        assert!((found.rows[0].change_percent - 50.0).abs() < 0.1);
        assert!(found.rows[0].low_percent > 40.0 && found.rows[0].high_percent < 60.0, "{found:?}");
        assert_eq!((found.rows[0].a, found.rows[0].b), (100.0, 150.0));
        assert!(found.only_in_a.is_empty() && found.only_in_b == ["gpt2 f16 tg8 @ d64"]);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }

    #[test]
    fn batches_are_compared_as_separate_rows() {
        let batch = |n: usize, samples: &[f64]| {
            let mut row = model_row(0, 8, 64, samples);
            row["test"] = format!("tg8 b{n} @ d64").into();
            row["n_sequences"] = n.into();
            row
        };
        let single = model_row(0, 8, 64, &[5.0, 5.1]);
        let a = models(&[single.clone(), batch(2, &[9.0, 9.1]), batch(4, &[15.0, 15.1])]);
        let b = models(&[batch(4, &[30.0, 30.2]), single, batch(8, &[50.0, 50.1])]);
        let found = compare(&a, &b, 95).unwrap();
        let names: Vec<_> = found.rows.iter().map(|row| (row.name.as_str(), row.a, row.b)).collect();
        assert_eq!(names, [("gpt2 f16 tg8 @ d64", 5.05, 5.05), ("gpt2 f16 tg8 b4 @ d64", 15.05, 30.1)]);
        assert_eq!(found.only_in_a, ["gpt2 f16 tg8 b2 @ d64"]);
        assert_eq!(found.only_in_b, ["gpt2 f16 tg8 b8 @ d64"]);
    }

    #[test]
    fn kernels_that_take_longer_are_slower() {
        let (short, long): (Vec<u64>, Vec<u64>) = (0..30).map(|i| (1000 + i, 2000 + i)).unzip();
        let record = |samples: &[u64]| Records {
            kernels: vec![kernel_record(&[("gemv n=8", "a", Cache::Warm, 20, 10, samples)])],
            ..Records::default()
        };
        let found = compare(&record(&short), &record(&long), 95).unwrap();
        assert_eq!(found.rows[0].name, "gemv n=8 [a] warm");
        assert_eq!(found.rows[0].verdict, Verdict::Slower);
        assert!((found.rows[0].change_percent + 49.6).abs() < 0.2, "{}", found.rows[0].change_percent);
        assert_eq!(found.rows[0].method, Method::BootstrapMedians);
        let same = compare(&record(&short), &record(&short), 95).unwrap();
        assert_eq!(same.rows[0].verdict, Verdict::NoDifference);
        assert_eq!(
            compare(&record(&[5]), &record(&[6]), 95).unwrap().rows[0].verdict,
            Verdict::TooFewSamples
        );
    }

    #[test]
    fn differing_circumstances_give_warnings() {
        let a = models(&[model_row(512, 0, 0, &[1.0, 1.1])]);
        let mut b = a.clone();
        b.models[0].driver_info = "2.0".into();
        b.models[0].device = "Other card".into();
        b.models[0].kernel_hash = "ab".into();
        let found = compare(&a, &b, 95).unwrap();
        assert_eq!(
            found.warnings,
            [
                "adapter differs: Card (vulkan) in the first record, Other card (vulkan) in the second",
                "driver differs: drv 1.0 in the first record, drv 2.0 in the second",
                "kernel hash differs: unknown in the first record, ab in the second",
            ]
        );
    }

    #[test]
    fn records_without_a_common_row_are_refused() {
        let error =
            compare(&models(&[model_row(512, 0, 0, &[1.0])]), &models(&[model_row(256, 0, 0, &[1.0])]), 95);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no row in common") && error.contains("\"gpt2 f16 pp512\""), "{error}");
    }
}
