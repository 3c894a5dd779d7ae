//! Results of `wgpt bench model` as markdown, CSV, JSON or JSON lines, with
//! llama-bench's names of columns and fields.

use std::time::Duration;

use serde::Serialize;
use wgpt::Engine;
use wgpt::bench::ModelBench;
use wgpt::gpu::{Backend, DeviceType, MemoryGroup, WGPU_VERSION};
use wgpt::tensor::DType;

use crate::cli::output::{bytes, count, duration, print, print_json};
use crate::cli::run_info::VERSION;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A markdown table
    Md,
    /// Comma-separated values with a header, without the single samples
    Csv,
    /// A JSON array
    Json,
    /// A JSON object a line
    Jsonl,
}

/// One result with all that it was measured with.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    flat: Flat,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
    /// Nanoseconds of each repetition to the first token.
    first_token_warm_samples_ns: Vec<u64>,
}

/// What has one value: the columns of the CSV form.
#[derive(Clone, Debug, Serialize)]
struct Flat {
    wgpt_version: &'static str,
    wgpu_version: &'static str,
    model: String,
    /// Bytes of the weights on the GPU.
    model_size: u64,
    model_n_params: u64,
    dtype: DType,
    kv_dtype: DType,
    backend: Backend,
    device: String,
    device_type: DeviceType,
    driver: String,
    driver_info: String,
    strategy: &'static str,
    features_floor: bool,
    deterministic: bool,
    n_ctx: usize,
    prefill_chunk: usize,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    test: String,
    test_time: String,
    avg_ns: f64,
    stddev_ns: f64,
    avg_ts: f64,
    stddev_ts: f64,
    /// Opening the device, loading weights, compiling, warming up.
    load_ns: u64,
    /// Loading, then the first run of this prompt up to its sampled token.
    first_token_cold_ns: Option<u64>,
    first_token_warm_ns: Option<f64>,
    encode_ns_per_token: f64,
    submit_ns_per_token: f64,
    wait_ns_per_token: f64,
    read_ns_per_token: f64,
    dispatches_per_token: f64,
    peak_gpu_bytes: u64,
    peak_host_bytes: Option<u64>,
}

impl Row {
    /// `load_ns` is what loading took, `time` the start of the test in seconds
    /// of the Unix epoch.
    pub fn new(engine: &Engine, load_ns: u64, result: &ModelBench, time: u64) -> Self {
        let report = engine.gpu().report().clone();
        let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (result.nanoseconds(), result.rate());
        let options = engine.options();
        let host = result.host;
        let per_token = |part: Duration| result.per_token(part.as_nanos() as f64);
        let flat = Flat {
            wgpt_version: VERSION,
            wgpu_version: WGPU_VERSION,
            model: engine.files().name().to_owned(),
            model_size: engine.plan().group_bytes(MemoryGroup::Weights),
            model_n_params: engine.files().config().n_parameters(),
            dtype: options.dtype,
            kv_dtype: options.kv_dtype,
            backend: report.backend,
            device: report.name,
            device_type: report.device_type,
            driver: report.driver,
            driver_info: report.driver_info,
            strategy: engine.gpu().strategy().name(),
            features_floor: engine.gpu().options().features_floor,
            deterministic: options.deterministic,
            n_ctx: engine.n_ctx(),
            prefill_chunk: options.prefill_chunk,
            n_prompt: result.test.n_prompt,
            n_gen: result.test.n_gen,
            n_depth: result.test.n_depth,
            test: result.test.name(),
            test_time: utc(time),
            avg_ns,
            stddev_ns,
            avg_ts,
            stddev_ts,
            load_ns,
            first_token_cold_ns: result.warm_up_first_token_ns.map(|ns| load_ns.saturating_add(ns)),
            first_token_warm_ns: result.first_token(),
            encode_ns_per_token: per_token(host.encode),
            submit_ns_per_token: per_token(host.submit),
            wait_ns_per_token: per_token(host.wait),
            read_ns_per_token: per_token(host.read),
            dispatches_per_token: result.per_token(host.dispatches as f64),
            peak_gpu_bytes: result.peak_gpu_bytes,
            peak_host_bytes: result.peak_host_bytes,
        };
        Row {
            flat,
            samples_ns: result.samples_ns.clone(),
            samples_ts: result.samples_ts(),
            first_token_warm_samples_ns: result.first_token_ns.clone(),
        }
    }
}

/// Prints rows as they come, where the format allows it.
pub struct Writer {
    format: Format,
    rows: Vec<Row>,
}

impl Writer {
    pub fn new(format: Format) -> Self {
        Writer { format, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, row: Row) -> anyhow::Result<()> {
        let first = self.rows.is_empty();
        match self.format {
            Format::Md => print(&markdown(&row.flat, first))?,
            Format::Csv => print(&csv(&row.flat, first)?)?,
            Format::Jsonl => print(&(serde_json::to_string(&row)? + "\n"))?,
            Format::Json => {}
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints what stands behind the rows.
    pub fn finish(self) -> anyhow::Result<()> {
        match (self.format, self.rows.first()) {
            (Format::Json, _) => print_json(&self.rows),
            (Format::Md, Some(Row { flat, .. })) => print(&format!(
                "\n{}\nwgpt {}, wgpu {}, {} {}\n",
                details(&self.rows),
                flat.wgpt_version,
                flat.wgpu_version,
                flat.driver,
                flat.driver_info
            )),
            _ => Ok(()),
        }
    }
}

/// A line of the table, the first one with the head.
fn markdown(flat: &Flat, first: bool) -> String {
    let model = format!("{} {}", flat.model, flat.dtype);
    let rate = format!("{:.2} ± {:.2}", flat.avg_ts, flat.stddev_ts);
    // A wider device stays as wide in the head, so that the columns align.
    let width = flat.device.chars().count().max("device".len());
    let mut text = String::new();
    if first {
        text = format!(
            "| {:<24} | {:>10} | {:>10} | {:<7} | {:<width$} | {:>15} | {:>20} |\n",
            "model", "size", "params", "backend", "device", "test", "t/s"
        );
        let dashes = "-".repeat(width);
        text.push_str(&format!(
            "| {:-<24} | {:->9}: | {:->9}: | {:-<7} | {dashes} | {:->14}: | {:->19}: |\n",
            "", "", "", "", "", ""
        ));
    }
    text + &format!(
        "| {model:<24} | {:>10} | {:>10} | {:<7} | {:<width$} | {:>15} | {rate:>20} |\n",
        bytes(flat.model_size),
        count(flat.model_n_params),
        flat.backend.name(),
        flat.device,
        flat.test,
    )
}

/// The second table: what a token costs beside the rate.
fn details(rows: &[Row]) -> String {
    let time = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), |ns| duration(ns / 1e9));
    let mut text = format!(
        "| {:>15} | {:>15} | {:>15} | {:>10} | {:>10} | {:>10} | {:>10} | {:>12} | {:>10} | {:>10} |\n",
        "test",
        "1st token, cold",
        "1st token, warm",
        "encode/t",
        "submit/t",
        "wait/t",
        "read/t",
        "dispatches/t",
        "GPU peak",
        "host peak"
    );
    text.push_str(&format!(
        "| {:->14}: | {:->14}: | {:->14}: | {:->9}: | {:->9}: | {:->9}: | {:->9}: | {:->11}: | {:->9}: | {:->9}: |\n",
        "", "", "", "", "", "", "", "", "", ""
    ));
    for Row { flat, .. } in rows {
        text.push_str(&format!(
            "| {:>15} | {:>15} | {:>15} | {:>10} | {:>10} | {:>10} | {:>10} | {:>12.2} | {:>10} | {:>10} |\n",
            flat.test,
            time(flat.first_token_cold_ns.map(|ns| ns as f64)),
            time(flat.first_token_warm_ns),
            time(Some(flat.encode_ns_per_token)),
            time(Some(flat.submit_ns_per_token)),
            time(Some(flat.wait_ns_per_token)),
            time(Some(flat.read_ns_per_token)),
            flat.dispatches_per_token,
            bytes(flat.peak_gpu_bytes),
            flat.peak_host_bytes.map_or_else(|| "-".to_owned(), bytes),
        ));
    }
    text
}

fn csv(flat: &Flat, first: bool) -> anyhow::Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(first).from_writer(Vec::new());
    writer.serialize(flat)?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Seconds of the Unix epoch as `2026-01-31T12:00:00Z`. The date comes from
/// Howard Hinnant's `civil_from_days`: years that begin in March, in eras of
/// 400 years.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        // Checked with `date -u -d @SECONDS`.
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
