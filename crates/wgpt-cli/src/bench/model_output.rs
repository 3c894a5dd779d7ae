//! Results of `wgpt bench model` as markdown, CSV, JSON or JSON lines, with llama-bench's
//! column and field names.

use std::time::Duration;

use serde::Serialize;
use wgpt::internals::bench::{ModelBench, RecordHeader};
use wgpt::{DType, Engine, MemoryGroup};

use crate::output::{bytes, count, duration};
use crate::results::{Format, Sink};

/// One result with the full setup it was measured with.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    header: RecordHeader,
    #[serde(flatten)]
    flat: Flat,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
    /// Nanoseconds to the first token in each repetition.
    first_token_warm_samples_ns: Vec<u64>,
}

/// The fields with a single value: the columns of the CSV form, after the header's.
#[derive(Clone, Debug, Serialize)]
struct Flat {
    model: String,
    /// Bytes of the weights on the GPU.
    model_size: u64,
    model_n_params: u64,
    dtype: DType,
    kv_dtype: DType,
    deterministic: bool,
    n_ctx: usize,
    /// Planned bytes for this context, including the weights.
    plan_bytes: u64,
    plan_kv_bytes: u64,
    plan_activations_bytes: u64,
    prefill_chunk: usize,
    /// The implementation of each operation, such as `gemv=workgroup_64 ...`.
    variants: String,
    /// Whether those implementations were tuned for the model on this device.
    tuned: bool,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    /// Number of sequences decoded together.
    n_sequences: usize,
    test: String,
    avg_ns: f64,
    stddev_ns: f64,
    avg_ts: f64,
    stddev_ts: f64,
    /// Time to open the device, load the weights, compile and warm up.
    load_ns: u64,
    /// The load time plus the first run of this prompt up to its sampled token.
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
    /// Builds a row; `header` is from the start of the test, `load_ns` the load time.
    pub fn new(engine: &Engine, header: RecordHeader, load_ns: u64, result: &ModelBench) -> Self {
        let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (result.nanoseconds(), result.rate());
        let (options, plan) = (engine.options(), engine.memory_plan());
        let variants: Vec<_> =
            engine.choices().names().iter().map(|(op, name)| format!("{op}={name}")).collect();
        let host = result.host;
        let per_token = |part: Duration| result.per_token(part.as_nanos() as f64);
        let flat = Flat {
            model: engine.files().name().to_owned(),
            model_size: plan.group_bytes(MemoryGroup::Weights),
            model_n_params: engine.files().config().n_parameters(),
            dtype: options.dtype,
            kv_dtype: options.kv_dtype,
            deterministic: options.deterministic,
            n_ctx: engine.n_ctx(),
            plan_bytes: plan.total_bytes(),
            plan_kv_bytes: plan.group_bytes(MemoryGroup::KvCache),
            plan_activations_bytes: plan.group_bytes(MemoryGroup::Activations),
            prefill_chunk: options.prefill_chunk,
            variants: variants.join(" "),
            tuned: engine.is_tuned(),
            n_prompt: result.test.n_prompt,
            n_gen: result.test.n_gen,
            n_depth: result.test.n_depth,
            n_sequences: result.test.n_sequences,
            test: result.test.name(),
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
            header,
            flat,
            samples_ns: result.samples_ns.clone(),
            samples_ts: result.samples_ts(),
            first_token_warm_samples_ns: result.first_token_ns.clone(),
        }
    }
}

/// Prints rows as they are measured if the format allows it.
pub struct Writer {
    format: Format,
    sink: Sink,
    rows: Vec<Row>,
}

impl Writer {
    pub fn new(format: Format, sink: Sink) -> Self {
        Writer { format, sink, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, row: Row) -> anyhow::Result<()> {
        let first = self.rows.is_empty();
        match self.format {
            Format::Markdown => self.sink.print(&markdown(&row, first))?,
            Format::Csv => self.sink.print(&csv(&row, first)?)?,
            Format::JsonLines => self.sink.print(&(serde_json::to_string(&row)? + "\n"))?,
            Format::Json => {}
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the text after the rows.
    pub fn finish(mut self) -> anyhow::Result<()> {
        match (self.format, self.rows.first()) {
            (Format::Json, _) => self.sink.print_json(&self.rows)?,
            (Format::Markdown, Some(Row { header, .. })) => self.sink.print(&format!(
                "\n{}\nwgpt {}, wgpu {}, {} {}\n",
                details(&self.rows),
                header.wgpt_version,
                header.wgpu_version,
                header.driver,
                header.driver_info
            ))?,
            _ => {}
        }
        self.sink.finish()
    }
}

/// Formats a line of the table; the first one follows the header.
fn markdown(Row { header, flat, .. }: &Row, first: bool) -> String {
    let model = format!("{} {}", flat.model, flat.dtype);
    let rate = format!("{:.2} ± {:.2}", flat.avg_ts, flat.stddev_ts);
    // The header column is as wide as a long device name, so that the columns align.
    let width = header.device.chars().count().max("device".len());
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
        header.backend,
        header.device,
        flat.test,
    )
}

/// Formats the second table: the costs per token next to the rate.
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

fn csv(row: &Row, first: bool) -> anyhow::Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(first).from_writer(Vec::new());
    writer.serialize((&row.header, &row.flat))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}
