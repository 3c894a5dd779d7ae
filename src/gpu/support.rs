//! A comparison of the features and limits of an adapter with those that wgpt uses, and
//! with the portable floor. No device is opened.

use serde::Serialize;

use super::AdapterReport;
use super::adapter::{self, GpuOptions};
use crate::error::Result;

/// A feature that some kernel or report uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureSupport {
    /// wgpu's name in lowercase.
    pub name: &'static str,
    /// Its use in wgpt.
    pub purpose: &'static str,
    /// Whether the adapter has it.
    pub offered: bool,
    /// Whether wgpt requests it when it opens a device.
    pub requested: bool,
}

/// A limit that kernels depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitSupport {
    /// wgpu's name.
    pub name: &'static str,
    /// The adapter's value.
    pub offered: u64,
    /// The value in `wgpu::Limits::default()`.
    pub floor: u64,
    /// Whether the adapter's value is at least as good as the floor.
    pub reaches_floor: bool,
}

/// An adapter with its features and limits.
#[derive(Clone, Debug)]
pub struct Support {
    /// The adapter that would be opened.
    pub adapter: AdapterReport,
    /// All features that any part of wgpt uses.
    pub features: Vec<FeatureSupport>,
    /// The limits that kernels depend on, and every other limit that is worse than the
    /// floor.
    pub limits: Vec<LimitSupport>,
}

type Feature = (wgpu::Features, &'static str, &'static str);

const FEATURES: [Feature; 6] = [
    (wgpu::Features::SUBGROUP, "subgroup", "sums across threads"),
    (wgpu::Features::SHADER_F16, "shader_f16", "cooperative matrices of f16"),
    (wgpu::Features::SHADER_INT64, "shader_int64", "64-bit loads on CPU adapters"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp_query", "times by the GPU's clock"),
    (
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
        "experimental_cooperative_matrix",
        "gemm on matrix units",
    ),
    (wgpu::Features::PIPELINE_CACHE, "pipeline_cache", "compiled pipelines on disk"),
];

type Limit = (&'static str, fn(&wgpu::Limits) -> u64);

const LIMITS: [Limit; 14] = [
    ("max_storage_buffer_binding_size", |l| l.max_storage_buffer_binding_size),
    ("max_buffer_size", |l| l.max_buffer_size),
    ("max_uniform_buffer_binding_size", |l| l.max_uniform_buffer_binding_size),
    ("max_storage_buffers_per_shader_stage", |l| l.max_storage_buffers_per_shader_stage.into()),
    ("max_uniform_buffers_per_shader_stage", |l| l.max_uniform_buffers_per_shader_stage.into()),
    ("max_bindings_per_bind_group", |l| l.max_bindings_per_bind_group.into()),
    ("max_compute_workgroup_storage_size", |l| l.max_compute_workgroup_storage_size.into()),
    ("max_compute_invocations_per_workgroup", |l| l.max_compute_invocations_per_workgroup.into()),
    ("max_compute_workgroup_size_x", |l| l.max_compute_workgroup_size_x.into()),
    ("max_compute_workgroup_size_y", |l| l.max_compute_workgroup_size_y.into()),
    ("max_compute_workgroup_size_z", |l| l.max_compute_workgroup_size_z.into()),
    ("max_compute_workgroups_per_dimension", |l| l.max_compute_workgroups_per_dimension.into()),
    ("min_uniform_buffer_offset_alignment", |l| l.min_uniform_buffer_offset_alignment.into()),
    ("min_storage_buffer_offset_alignment", |l| l.min_storage_buffer_offset_alignment.into()),
];

impl Support {
    /// Describes the adapter that [`Gpu::open`](super::Gpu::open) would open.
    ///
    /// # Errors
    /// [`crate::Error::NoAdapter`] if no adapter fits.
    pub fn of(options: &GpuOptions) -> Result<Self> {
        let (adapter, report) = adapter::choose(options)?;
        let (requested, _) = adapter::request(&adapter, options);
        let offered = adapter.features();
        let features = FEATURES.map(|(feature, name, purpose)| FeatureSupport {
            name,
            purpose,
            offered: offered.contains(feature),
            requested: requested.contains(feature),
        });
        let limits = limits(&adapter.limits());
        Ok(Support { adapter: report, features: features.to_vec(), limits })
    }
}

fn limits(offered: &wgpu::Limits) -> Vec<LimitSupport> {
    let floor = wgpu::Limits::default();
    let mut rows: Vec<LimitSupport> = LIMITS
        .iter()
        .map(|(name, value)| {
            let (offered, floor) = (value(offered), value(&floor));
            LimitSupport { name, offered, floor, reaches_floor: true }
        })
        .collect();
    // For each limit, wgpu knows whether a higher or a lower value is better.
    floor.check_limits_with_fail_fn(offered, false, |name, floor, offered| {
        let below = LimitSupport { name, offered, floor, reaches_floor: false };
        match rows.iter_mut().find(|row| row.name == name) {
            Some(row) => *row = below,
            None => rows.push(below),
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use crate::gpu::adapter::USEFUL_FEATURES;

    #[test]
    fn every_requested_feature_is_named() {
        let named = FEATURES.iter().fold(wgpu::Features::empty(), |all, (feature, ..)| all | *feature);
        assert_eq!(named, USEFUL_FEATURES | wgpu::Features::PIPELINE_CACHE);
        for (feature, name, _) in FEATURES {
            let names: Vec<_> = feature.iter_names().map(|(name, _)| name.to_lowercase()).collect();
            assert_eq!(names, [name]);
        }
    }

    #[test]
    fn limits_below_the_floor_are_reported() {
        let floor = wgpu::Limits::default();
        assert!(limits(&floor).iter().all(|row| row.reaches_floor && row.offered == row.floor));
        // A lower maximum, a larger alignment, and a limit that is otherwise not listed.
        let poor = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 7,
            min_storage_buffer_offset_alignment: 512,
            max_bind_groups: 3,
            ..floor.clone()
        };
        let rows = limits(&poor);
        let below: Vec<_> = rows.iter().filter(|row| !row.reaches_floor).collect();
        let values: Vec<_> = below.iter().map(|row| (row.name, row.offered, row.floor)).collect();
        assert_eq!(values.len(), 3, "{values:?}");
        for expected in [
            ("max_storage_buffers_per_shader_stage", 7, 8),
            ("min_storage_buffer_offset_alignment", 512, 256),
            ("max_bind_groups", 3, 4),
        ] {
            assert!(values.contains(&expected), "{values:?}");
        }
    }

    #[test]
    fn the_reported_support_matches_the_opened_device() {
        for features_floor in [false, true] {
            let options = GpuOptions { features_floor, ..GpuOptions::default() };
            let support = Support::of(&options).expect("an adapter");
            let gpu = Gpu::open(&options).expect("an adapter");
            assert_eq!(support.adapter.name, gpu.report().name);
            for (feature, row) in FEATURES.iter().zip(&support.features) {
                assert_eq!(row.requested, gpu.device.features().contains(feature.0), "{}", row.name);
                assert!(row.offered || !row.requested);
            }
        }
    }
}
