//! The setup of a result, which is part of every JSON report.

use std::collections::BTreeMap;

use serde::Serialize;
use wgpt::{AdapterReport, Backend, DType, DeviceType, Engine};

/// Model, element types and device of a result.
#[derive(Debug, Serialize)]
pub struct RunInfo {
    pub model: String,
    pub dtype: DType,
    pub kv_dtype: DType,
    pub deterministic: bool,
    pub features_floor: bool,
    pub device: DeviceInfo,
    /// The implementation of each operation.
    pub variants: BTreeMap<&'static str, &'static str>,
    /// Whether those implementations were tuned for the model on this device.
    pub tuned: bool,
    /// Faults that did not stop the engine.
    pub warnings: Vec<String>,
    /// GPU memory in use, in bytes.
    pub gpu_bytes: u64,
    pub version: &'static str,
}

/// The device of a result.
#[derive(Debug, Serialize)]
pub struct DeviceInfo {
    pub name: String,
    pub backend: Backend,
    pub driver: String,
    pub driver_info: String,
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    pub strategy: String,
}

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl RunInfo {
    /// Describes `engine`.
    pub fn new(engine: &Engine) -> Self {
        let AdapterReport { name, backend, driver, driver_info, device_type, .. } =
            engine.gpu().report().clone();
        let options = engine.options();
        RunInfo {
            model: engine.files().name().to_owned(),
            dtype: options.dtype,
            kv_dtype: options.kv_dtype,
            deterministic: options.deterministic,
            features_floor: engine.gpu().options().features_floor,
            device: DeviceInfo {
                name,
                backend,
                driver,
                driver_info,
                device_type,
                strategy: engine.gpu().strategy().name().to_owned(),
            },
            variants: engine.choices().names(),
            tuned: engine.is_tuned(),
            warnings: engine.warnings(),
            gpu_bytes: engine.gpu().ledger().total_bytes(),
            version: VERSION,
        }
    }
}
