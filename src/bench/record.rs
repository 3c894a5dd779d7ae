//! The header of every record. It describes the setup of a measurement.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::kernels::KernelRow;
use super::roofline::Roofline;
use crate::gpu::{Gpu, WGPU_VERSION};
use crate::kernels;

/// Program, kernels, device and time of a measurement. The fields of a record have the
/// names that llama-bench and [`crate::gpu::AdapterReport`] use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// Version of this library.
    pub wgpt_version: String,
    /// Version of wgpu.
    pub wgpu_version: String,
    /// Hash of the kernel sources, from [`kernels::SOURCE_HASH`].
    pub kernel_hash: String,
    /// Name of the adapter.
    pub device: String,
    /// Type of the device: discrete, integrated, virtual, cpu or other.
    pub device_type: String,
    /// Graphics API: vulkan, metal or dx12.
    pub backend: String,
    /// Name of the driver.
    pub driver: String,
    /// Version of the driver, in the driver's own wording.
    pub driver_info: String,
    /// Whether the device was opened with only the portable floor's features and limits.
    pub features_floor: bool,
    /// The family of kernel variants that the device runs by default.
    pub strategy: String,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest workgroup in invocations.
    pub max_workgroup_invocations: u32,
    /// Workgroup memory in bytes.
    pub max_workgroup_memory_bytes: u32,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Logical cores of the machine that this process may use.
    pub cpu_cores: usize,
    /// Start of the measurement, as `2026-01-31T12:00:00Z`.
    pub test_time: String,
}

impl RecordHeader {
    /// Returns the header of a measurement on `gpu` that begins now.
    #[must_use]
    pub fn new(gpu: &Gpu) -> Self {
        let report = gpu.report();
        let limits = gpu.limits();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        RecordHeader {
            wgpt_version: env!("CARGO_PKG_VERSION").to_owned(),
            wgpu_version: WGPU_VERSION.to_owned(),
            kernel_hash: kernels::SOURCE_HASH.to_owned(),
            device: report.name.clone(),
            device_type: report.device_type.name().to_owned(),
            backend: report.backend.name().to_owned(),
            driver: report.driver.clone(),
            driver_info: report.driver_info.clone(),
            features_floor: gpu.options().features_floor,
            strategy: gpu.strategy().name().to_owned(),
            max_binding_bytes: gpu.max_binding_bytes(),
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            cpu_cores: std::thread::available_parallelism().map_or(1, usize::from),
            test_time: utc(now),
        }
    }

    /// Returns this header for a further measurement that begins now.
    #[must_use]
    pub fn now(&self) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        RecordHeader { test_time: utc(now), ..self.clone() }
    }

    /// Returns adapter, API and driver as a title.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} ({}, {} {})", self.device, self.backend, self.driver, self.driver_info)
    }
}

/// All results of one run of the kernel benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRecord {
    /// Setup of the measurement.
    #[serde(flatten)]
    pub header: RecordHeader,
    /// Requested samples per row.
    pub repetitions: usize,
    /// Maximum seconds per row. A row that reaches them has fewer samples.
    pub max_seconds: f64,
    /// Bytes that pass through the caches before a cold repetition.
    pub cold_bytes: u64,
    /// Whether all requested rows were measured.
    pub complete: bool,
    /// Measured limits of the adapter.
    pub roofline: Roofline,
    /// One row for each case, variant and cache state.
    pub kernels: Vec<KernelRow>,
}

/// Formats seconds since the Unix epoch as `2026-01-31T12:00:00Z`. The date comes from
/// Howard Hinnant's `civil_from_days`, which counts years from March in eras of 400
/// years.
#[must_use]
pub fn utc(seconds: u64) -> String {
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
    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn dates_are_formatted_in_utc() {
        // Checked with `date -u -d @SECONDS`.
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn a_header_describes_device_and_kernels() {
        let options =
            GpuOptions { features_floor: true, max_binding_bytes: Some(1 << 20), ..Default::default() };
        let gpu = Gpu::open(&options).expect("an adapter");
        let header = RecordHeader::new(&gpu);
        assert!(header.features_floor && header.max_binding_bytes == 1 << 20 && header.cpu_cores > 0);
        assert_eq!(header.max_workgroup_invocations, 256);
        assert_eq!(header.kernel_hash, kernels::SOURCE_HASH);
        assert!(header.place().contains(&gpu.report().name));
        let text = serde_json::to_string(&header).unwrap();
        assert_eq!(serde_json::from_str::<RecordHeader>(&text).unwrap(), header);
        assert!(header.now().test_time >= header.test_time);
    }
}
