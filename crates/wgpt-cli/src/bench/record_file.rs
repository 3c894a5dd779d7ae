//! Reads records: the JSON output of `wgpt bench model` and `wgpt bench kernels`, as a
//! whole file or inside one.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use wgpt::Error;
use wgpt::internals::bench::KernelRecord;

/// A row of `wgpt bench model`: the fields that comparisons and pictures need. Fields
/// missing from older records have a default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ModelRow {
    pub model: String,
    pub dtype: String,
    pub kv_dtype: String,
    pub deterministic: bool,
    pub features_floor: bool,
    pub n_prompt: usize,
    pub n_gen: usize,
    pub n_depth: usize,
    pub test: String,
    pub samples_ts: Vec<f64>,
    pub device: String,
    pub backend: String,
    pub driver: String,
    pub driver_info: String,
    pub wgpu_version: String,
    #[serde(default)]
    pub kernel_hash: String,
    /// `None` for records from before version 0.2, which have no memory plan.
    #[serde(flatten)]
    pub memory: Option<Memory>,
}

/// The planned memory of a row's context.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Memory {
    pub n_ctx: usize,
    pub model_size: u64,
    pub plan_bytes: u64,
    pub plan_kv_bytes: u64,
    pub plan_activations_bytes: u64,
}

/// All rows of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub models: Vec<ModelRow>,
    pub kernels: Vec<KernelRecord>,
}

/// Largest size of a record file in bytes.
const BYTES_MAX: u64 = 1 << 30;

impl Records {
    /// Reads a file: an array or lines of model rows, a kernel record, or an object that
    /// contains these under `results` or `steps`, at any depth.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] for a file without rows, or for a row with a
    /// missing or wrong field, which the message names.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let n_bytes = fs::metadata(path).map_err(failed)?.len();
        if n_bytes > BYTES_MAX {
            return Err(Error::Input(format!(
                "{}: the file has {n_bytes} bytes, but a record has at most {BYTES_MAX}: give the output of \
                 wgpt bench with --json",
                path.display()
            )));
        }
        let bytes = fs::read(path).map_err(failed)?;
        Self::parse(&bytes).map_err(|message| Error::Input(format!("{}: {message}", path.display())))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut records = Records::default();
        for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
            records.collect(value.map_err(|e| {
                format!("the file is not JSON: {e}: give the output of wgpt bench with --json")
            })?)?;
        }
        if records.models.is_empty() && records.kernels.iter().all(|record| record.kernels.is_empty()) {
            return Err("the file has no rows of `wgpt bench model` or `wgpt bench kernels`: give their \
                        output with --json"
                .to_owned());
        }
        Ok(records)
    }

    fn collect(&mut self, value: Value) -> Result<(), String> {
        match value {
            Value::Array(values) => values.into_iter().try_for_each(|value| self.collect(value)),
            Value::Object(mut object) => {
                if object.contains_key("samples_ts") {
                    let row = ModelRow::deserialize(Value::Object(object));
                    self.models.push(row.map_err(|e| format!("model row {}: {e}", self.models.len() + 1))?);
                } else if object.contains_key("roofline") {
                    let record = KernelRecord::deserialize(Value::Object(object));
                    self.kernels.push(record.map_err(|e| format!("kernel record: {e}"))?);
                } else {
                    for key in ["steps", "results"] {
                        if let Some(value) = object.remove(key) {
                            self.collect(value)?;
                        }
                    }
                }
                Ok(())
            }
            // Ignores other values, such as a note next to the results.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;
    use wgpt::internals::bench::{
        Bound, Cache, Clock, KernelFigures, KernelRow, LatencyRow, ProbeRow, RecordHeader, Roofline, Spread,
    };

    use super::*;

    /// Returns a model row at a depth.
    pub fn model_row(n_prompt: usize, n_gen: usize, n_depth: usize, samples_ts: &[f64]) -> Value {
        let kind = if n_gen > 0 { format!("tg{n_gen}") } else { format!("pp{n_prompt}") };
        let test = if n_depth > 0 { format!("{kind} @ d{n_depth}") } else { kind };
        json!({
            "model": "gpt2", "dtype": "f16", "kv_dtype": "f16", "deterministic": false,
            "features_floor": false, "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": n_depth,
            "test": test, "samples_ts": samples_ts, "device": "Card", "backend": "vulkan",
            "driver": "drv", "driver_info": "1.0", "wgpu_version": "30.0.1",
        })
    }

    /// The case, variant, cache, flops, bytes and samples of a row.
    pub type RowSpec<'a> = (&'a str, &'a str, Cache, u64, u64, &'a [u64]);

    /// Returns a record with these rows.
    pub fn kernel_record(rows: &[RowSpec<'_>]) -> KernelRecord {
        let header = RecordHeader {
            wgpt_version: "0.1.0".into(),
            wgpu_version: "30.0.1".into(),
            kernel_hash: "0123456789abcdef".into(),
            device: "Card".into(),
            device_type: "discrete".into(),
            backend: "vulkan".into(),
            driver: "drv".into(),
            driver_info: "1.0".into(),
            features_floor: false,
            strategy: "subgroup".into(),
            max_binding_bytes: 1 << 27,
            max_buffer_bytes: 1 << 28,
            max_workgroup_invocations: 256,
            max_workgroup_memory_bytes: 16384,
            max_storage_buffers: 8,
            cpu_cores: 2,
            test_time: "2026-01-31T12:00:00Z".into(),
        };
        let time = Spread { median_ns: 1000.0, p10_ns: 900.0, p90_ns: 1100.0 };
        let probe = ProbeRow {
            probe: "copy".into(),
            shape: "256x1".into(),
            bytes: 1000,
            flops: 0,
            time,
            per_second: 1e12,
        };
        let roofline = Roofline {
            bytes_per_second: 1e12,
            flops_per_second: 20e12,
            clock: Clock::Gpu,
            overhead_ns: 5000.0,
            probes: vec![probe],
            latency: vec![LatencyRow { n_dispatches: 64, dependent: true, gpu: Some(time), wall: time }],
        };
        let kernels = rows.iter().map(|&(case, variant, cache, flops, bytes, samples_ns)| {
            let Spread { median_ns, p10_ns, p90_ns } = Spread::of(samples_ns);
            let (minimum_ns, bound) =
                roofline.minimum_ns(wgpt::internals::conformance::cases::Cost { bytes, flops });
            let figures = KernelFigures {
                op: case.split(' ').next().unwrap_or_default().into(),
                model: String::new(),
                case: case.into(),
                variant: variant.into(),
                cache,
                clock: Clock::Gpu,
                n_samples: samples_ns.len(),
                median_ns,
                p10_ns,
                p90_ns,
                overhead_ns: 0.0,
                bytes,
                flops,
                gb_per_second: Some(bytes as f64 / median_ns),
                gflop_per_second: (flops > 0).then_some(flops as f64 / median_ns),
                bound,
                roofline_percent: Some(100.0 * minimum_ns / median_ns),
            };
            assert!(bound == Bound::Bandwidth || flops > 0);
            KernelRow { figures, samples_ns: samples_ns.to_vec() }
        });
        let kernels = kernels.collect();
        KernelRecord {
            header,
            repetitions: 50,
            max_seconds: 1.0,
            cold_bytes: 1 << 27,
            complete: true,
            roofline,
            kernels,
        }
    }

    fn parse(value: &Value) -> Result<Records, String> {
        Records::parse(value.to_string().as_bytes())
    }

    #[test]
    fn rows_are_found_at_any_depth_of_a_record() {
        let row = model_row(512, 0, 0, &[1.0, 2.0]);
        let kernels =
            serde_json::to_value(kernel_record(&[("gemv x", "a", Cache::Warm, 2, 2, &[5])])).unwrap();
        let counts = |value: &Value| {
            let records = parse(value).unwrap();
            (records.models.len(), records.kernels.len())
        };
        assert_eq!(counts(&json!([row, row])), (2, 0));
        assert_eq!(counts(&kernels), (0, 1));
        assert_eq!(counts(&json!({ "date": "x", "results": [row] })), (1, 0));
        let steps = json!([
            { "step": "devices", "results": [{ "name": "Card" }] },
            { "step": "golden", "status": "ok" },
            { "step": "bench_demo", "results": [row] },
            { "step": "bench_kernels", "results": kernels },
        ]);
        assert_eq!(counts(&json!({ "steps": steps })), (1, 1));
        let lines = format!("{row}\n{row}\n");
        assert_eq!(Records::parse(lines.as_bytes()).unwrap().models.len(), 2);
    }

    #[test]
    fn files_without_a_record_are_refused() {
        for text in ["", "[]", "{}", "3", r#"[{"name": "x"}]"#] {
            assert!(Records::parse(text.as_bytes()).unwrap_err().contains("has no rows"), "{text}");
        }
        assert!(Records::parse(b"no json").unwrap_err().contains("not JSON"));
        let error = parse(&json!([{ "samples_ts": [1.0] }])).unwrap_err();
        assert!(error.contains("model row 1: missing field"), "{error}");
        assert!(parse(&json!({ "roofline": 1 })).unwrap_err().starts_with("kernel record: "));
        assert!(Records::read(Path::new("no/such/file")).is_err());
    }

    #[test]
    fn a_kernel_record_can_be_read_back() {
        let record = kernel_record(&[("gemv n=8", "a", Cache::Cold, 20, 10, &[7, 9, 8])]);
        let records = Records::parse(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(records.kernels, [record]);
    }
}
