//! Results of a check-up and the conclusions from them.

use serde::Serialize;

use super::benchmark::Benchmark;
use super::kernels::{KernelCheck, Status};
use super::surroundings::{Cache, Program, Variable};
use crate::bench::Machine;
use crate::conformance::Shapes;
use crate::gpu::{AdapterReport, FeatureSupport, LimitSupport};
use crate::kernels::Needs;

/// Overall result, or severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There are no findings.
    Ok,
    /// wgpt works, but not as well as it could.
    Warnings,
    /// wgpt computes wrong results here, or cannot compute at all.
    Broken,
}

impl Verdict {
    /// Returns the name that reports print.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warnings => "warnings",
            Verdict::Broken => "broken",
        }
    }
}

/// Subject of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The adapter: there is none, or none that fits.
    Adapter,
    /// The device: it cannot be opened, or its adapter is a reason for a warning.
    Device,
    /// The portable floor.
    Floor,
    /// An implementation of an operation.
    Kernels,
    /// The directory with tuned choices and compiled pipelines.
    Cache,
    /// The benchmark.
    Benchmark,
}

impl Subject {
    /// Returns the name that reports print.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Subject::Adapter => "adapter",
            Subject::Device => "device",
            Subject::Floor => "floor",
            Subject::Kernels => "kernels",
            Subject::Cache => "cache",
            Subject::Benchmark => "benchmark",
        }
    }
}

/// One problem that the check-up found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Severity: never [`Verdict::Ok`].
    pub severity: Verdict,
    /// Subject of the problem.
    pub subject: Subject,
    /// Description of the problem and what to do about it, for the user.
    pub message: String,
}

/// The model whose sizes the kernel checks use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSizes {
    /// Name of the model.
    pub name: String,
    /// Sizes of the model.
    #[serde(flatten)]
    pub shapes: Shapes,
}

/// The open device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// Kernel family that the device prefers.
    pub strategy: &'static str,
    /// Whether the device was opened with only the portable floor's features and limits.
    pub features_floor: bool,
    /// Largest storage binding in bytes; larger tensors are split.
    pub max_binding_bytes: u64,
}

/// Check of a second device, opened with only the features and limits that every adapter
/// has.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Floor {
    /// Whether the device could be opened.
    pub opened: bool,
    /// Reason why it could not be opened.
    pub problem: Option<String>,
    /// Checks of the kernels that it runs when untuned.
    pub kernels: Vec<KernelCheck>,
}

/// The result of a check-up. It serializes to all findings and details.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Severity of the worst finding.
    pub verdict: Verdict,
    /// The problems found, the worst first.
    pub findings: Vec<Finding>,
    #[serde(flatten)]
    pub(super) details: Details,
}

/// The details of a check-up. Its strings contain no control characters except line
/// feeds, and the home directory appears as `~`.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    /// Start time, as `2026-01-31T12:00:00Z`.
    pub time: String,
    /// Versions of the program.
    pub program: Program,
    /// The machine.
    pub machine: Machine,
    /// The selected adapter.
    pub adapter: Option<AdapterReport>,
    /// The other adapters, as `1: name (vulkan)`.
    pub other_adapters: Vec<String>,
    /// The device, if it could be opened.
    pub device: Option<Device>,
    /// Features that wgpt uses.
    pub features: Vec<FeatureSupport>,
    /// Limits that are relevant to wgpt.
    pub limits: Vec<LimitSupport>,
    /// The portable floor on the same adapter, if a device could be opened.
    pub floor: Option<Floor>,
    /// The model whose sizes the kernel checks use.
    pub model: ModelSizes,
    /// Checks of every implementation of every operation.
    pub kernels: Vec<KernelCheck>,
    /// Directory of tuned choices and compiled pipelines.
    pub cache: Cache,
    /// Relevant environment variables that are set.
    pub environment: Vec<Variable>,
    /// Benchmark, if it was requested and a device could be opened.
    pub benchmark: Option<Benchmark>,
}

impl Report {
    /// Returns the details of the check-up.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn details(&self) -> &Details {
        &self.details
    }

    /// Returns whether the check-up ended because no adapter was found.
    #[must_use]
    pub fn has_no_adapter(&self) -> bool {
        self.findings.iter().any(|f| (f.subject, f.severity) == (Subject::Adapter, Verdict::Broken))
    }

    pub(super) fn find(&mut self, severity: Verdict, subject: Subject, message: impl Into<String>) {
        self.findings.push(Finding { severity, subject, message: message.into() });
    }

    /// Derives the remaining findings and the verdict.
    pub(super) fn conclude(mut self) -> Self {
        if let Some(adapter) = &self.details.adapter {
            let mut found = adapter_findings(adapter);
            self.findings.append(&mut found);
        }
        let mut found = kernel_findings(&self.details.kernels);
        self.findings.append(&mut found);
        if let Some(floor) = &self.details.floor {
            let mut found = floor_findings(floor, &self.details.limits);
            self.findings.append(&mut found);
        }
        let problem = self.details.cache.problem.clone();
        if let Some(problem) = problem {
            self.find(Verdict::Warnings, Subject::Cache, problem);
        }
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.verdict = self.findings.first().map_or(Verdict::Ok, |worst| worst.severity);
        self
    }
}

fn adapter_findings(adapter: &AdapterReport) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |message: String| {
        found.push(Finding { severity: Verdict::Warnings, subject: Subject::Device, message });
    };
    if adapter.is_software() {
        warn(format!(
            "{} computes on the CPU: if the machine has a GPU, its driver is missing or another adapter was \
             chosen (GpuOptions::device)",
            adapter.name
        ));
    }
    if let Some(compiler) = adapter.shader_compiler.as_ref().filter(|_| !adapter.has_dxc()) {
        warn(format!("DX12 shader compiler: {compiler}"));
    }
    found
}

/// Returns a finding for each wrong kernel. It is a fault if the kernel is in use or the
/// device's default. Otherwise it is a warning, because only speed is lost.
fn kernel_findings(kernels: &[KernelCheck]) -> Vec<Finding> {
    let demoted = kernels.iter().filter(|kernel| kernel.status == Status::Demoted);
    demoted
        .map(|kernel| {
            let reason = kernel.reason.as_deref().unwrap_or_default();
            let (severity, what) = match (kernel.in_use, kernel.default) {
                (true, _) => (
                    Verdict::Broken,
                    "is in use and wrong here: choose another one (ModelOptions::variants) and report it",
                ),
                (false, true) => {
                    (Verdict::Broken, "is this device's default and wrong here: please report it")
                }
                (false, false) => (Verdict::Warnings, "is wrong here, but never used"),
            };
            let message = format!("{}={} {what}: {reason}", kernel.op, kernel.variant);
            Finding { severity, subject: Subject::Kernels, message }
        })
        .collect()
}

fn floor_findings(floor: &Floor, limits: &[LimitSupport]) -> Vec<Finding> {
    let broken = |message| Finding { severity: Verdict::Broken, subject: Subject::Floor, message };
    let below = limits
        .iter()
        .filter(|limit| !limit.reaches_floor)
        .map(|limit| broken(format!("{} is {}, but wgpt needs {}", limit.name, limit.offered, limit.floor)));
    let problem = floor.problem.iter().map(|problem| broken(problem.clone()));
    let kernels = floor.kernels.iter().filter(|kernel| kernel.status == Status::Demoted).map(|kernel| {
        let reason = kernel.reason.as_deref().unwrap_or_default();
        broken(format!("{}={} is wrong on the portable floor: {reason}", kernel.op, kernel.variant))
    });
    below.chain(problem).chain(kernels).collect()
}

/// Describes the missing features of a device that cannot run an implementation with
/// these needs.
pub(super) fn missing_features(needs: Needs) -> String {
    match needs {
        Needs::Floor => "nothing".to_owned(),
        Needs::Subgroups => "needs subgroup operations".to_owned(),
        Needs::Int64 => "needs 64-bit integers in shaders".to_owned(),
        Needs::Int64AndQuads => {
            "needs 64-bit integers in shaders and subgroups of four threads or more".to_owned()
        }
        Needs::CooperativeMatrix(size) => {
            format!("needs cooperative matrices of {size} x {size} f16 with sums in f32")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Op;

    fn kernel(status: Status, default: bool, in_use: bool) -> KernelCheck {
        let reason = (status == Status::Demoted).then(|| "3 wrong elements".to_owned());
        KernelCheck { op: Op::Gemm, variant: "tile_32x32", status, reason, default, in_use }
    }

    #[test]
    fn a_slow_adapter_or_compiler_is_a_warning() {
        use crate::gpu::{Backend, DeviceType, GpuOptions, Support};

        let found = Support::of(&GpuOptions::default()).expect("an adapter").adapter;
        let gpu = AdapterReport { device_type: DeviceType::Discrete, shader_compiler: None, ..found };
        assert_eq!(adapter_findings(&gpu), []);
        let software = AdapterReport { device_type: DeviceType::Cpu, ..gpu.clone() };
        let dx12 = |has: bool| AdapterReport {
            backend: Backend::Dx12,
            shader_compiler: Some("this one".to_owned()),
            shader_f16: has,
            subgroups: has,
            ..gpu.clone()
        };
        assert_eq!(adapter_findings(&dx12(true)), []);
        for (adapter, message) in [(software, "computes on the CPU"), (dx12(false), "compiler: this one")] {
            let found = adapter_findings(&adapter);
            assert!(found.len() == 1 && found[0].severity == Verdict::Warnings, "{found:?}");
            assert!(found[0].message.contains(message), "{found:?}");
        }
    }

    #[test]
    fn the_severity_of_a_wrong_kernel_depends_on_its_use() {
        let severity = |status, default, in_use| {
            let found = kernel_findings(&[kernel(status, default, in_use)]);
            found.first().map(|finding| {
                assert!(finding.message.contains("gemm=tile_32x32") && finding.message.contains("3 wrong"));
                finding.severity
            })
        };
        assert_eq!(severity(Status::Demoted, false, false), Some(Verdict::Warnings));
        assert_eq!(severity(Status::Demoted, true, false), Some(Verdict::Broken));
        assert_eq!(severity(Status::Demoted, false, true), Some(Verdict::Broken));
        assert_eq!(severity(Status::Passed, true, true), None);
        assert_eq!(severity(Status::Unavailable, false, false), None);
    }

    #[test]
    fn a_device_below_the_floor_is_a_fault() {
        let limit = |offered, reaches_floor| LimitSupport { name: "max", offered, floor: 8, reaches_floor };
        let sound = Floor { opened: true, problem: None, kernels: vec![kernel(Status::Passed, true, true)] };
        assert_eq!(floor_findings(&sound, &[limit(8, true)]), []);
        let closed = Floor { problem: Some("refused".to_owned()), ..Floor::default() };
        let wrong = Floor { opened: true, problem: None, kernels: vec![kernel(Status::Demoted, true, true)] };
        for (floor, limit, message) in [
            (&sound, limit(7, false), "max is 7, but wgpt needs 8"),
            (&closed, limit(8, true), "refused"),
            (&wrong, limit(8, true), "on the portable floor: 3 wrong elements"),
        ] {
            let found = floor_findings(floor, &[limit]);
            assert!(found.len() == 1 && found[0].severity == Verdict::Broken, "{found:?}");
            assert!(found[0].message.contains(message), "{found:?}");
        }
    }
}
