//! What a check-up found, and what follows from it.

use serde::Serialize;

use super::benchmark::Benchmark;
use super::kernels::{KernelCheck, Status};
use super::surroundings::{Cache, Program, Variable};
use crate::bench::Machine;
use crate::gpu::{AdapterReport, FeatureSupport, LimitSupport};
use crate::kernels::Needs;
use crate::tune::Shapes;

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to say.
    Ok,
    /// It works, though not as well as it might.
    Warnings,
    /// What wgpt computes here is wrong, or nothing is computed at all.
    Broken,
}

impl Verdict {
    /// The name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warnings => "warnings",
            Verdict::Broken => "broken",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// There is none, or none that fits.
    Adapter,
    /// It cannot be opened, or says something.
    Device,
    /// The portable floor.
    Floor,
    /// An implementation of an operation.
    Kernels,
    /// The directory of tuned choices and pipelines.
    Cache,
    /// Bandwidths and rates.
    Benchmark,
}

impl Subject {
    /// The name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is: never [`Verdict::Ok`].
    pub severity: Verdict,
    /// What it is about.
    pub subject: Subject,
    /// What was found and what to do, for a person.
    pub message: String,
}

/// The model at whose sizes kernels are checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSizes {
    /// Its name.
    pub name: String,
    /// Its sizes.
    #[serde(flatten)]
    pub shapes: Shapes,
}

/// The open device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// The family of kernels that it prefers.
    pub strategy: &'static str,
    /// Whether it was asked for the floor alone.
    pub features_floor: bool,
    /// The largest storage binding in bytes: larger tensors are split.
    pub max_binding_bytes: u64,
}

/// A second device with the least that any adapter offers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Floor {
    /// Whether it could be opened.
    pub opened: bool,
    /// Why not.
    pub problem: Option<String>,
    /// The kernels that it runs untuned.
    pub kernels: Vec<KernelCheck>,
}

/// All that a check-up found. Strings hold no control characters but line feeds, and
/// the home directory as `~`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// When it began, as `2026-01-31T12:00:00Z`.
    pub time: String,
    /// Versions.
    pub program: Program,
    /// The machine.
    pub machine: Machine,
    /// The adapter that was taken.
    pub adapter: Option<AdapterReport>,
    /// The others, as `1: name (vulkan)`.
    pub other_adapters: Vec<String>,
    /// The device, where it could be opened.
    pub device: Option<Device>,
    /// Features that wgpt uses.
    pub features: Vec<FeatureSupport>,
    /// Limits that matter.
    pub limits: Vec<LimitSupport>,
    /// The portable floor on the same adapter, where a device could be opened.
    pub floor: Option<Floor>,
    /// The model at whose sizes kernels are checked.
    pub model: ModelSizes,
    /// Every implementation of every operation.
    pub kernels: Vec<KernelCheck>,
    /// Where tuned choices and pipelines are kept.
    pub cache: Cache,
    /// Variables that decide something and are set.
    pub environment: Vec<Variable>,
    /// Bandwidths and rates, where they were asked for and the device is sound.
    pub benchmark: Option<Benchmark>,
}

impl Report {
    /// Whether it ended where no adapter was found.
    #[must_use]
    pub fn has_no_adapter(&self) -> bool {
        self.findings.iter().any(|f| (f.subject, f.severity) == (Subject::Adapter, Verdict::Broken))
    }

    pub(super) fn find(&mut self, severity: Verdict, subject: Subject, message: impl Into<String>) {
        self.findings.push(Finding { severity, subject, message: message.into() });
    }

    /// Draws the conclusions.
    pub(super) fn conclude(mut self) -> Self {
        if let Some(adapter) = &self.adapter {
            let mut found = adapter_findings(adapter);
            self.findings.append(&mut found);
        }
        let mut found = kernel_findings(&self.kernels);
        self.findings.append(&mut found);
        if let Some(floor) = &self.floor {
            let mut found = floor_findings(floor, &self.limits);
            self.findings.append(&mut found);
        }
        let problem = self.cache.problem.clone();
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
            "{} computes on the CPU: where the machine has a GPU, its driver is missing or another adapter was \
             chosen (--device)",
            adapter.name
        ));
    }
    if let Some(compiler) = adapter.shader_compiler.as_ref().filter(|_| !adapter.has_dxc()) {
        warn(format!("DX12 shader compiler: {compiler}"));
    }
    found
}

/// A wrong kernel that runs is a fault; one that does not run is a loss of speed.
fn kernel_findings(kernels: &[KernelCheck]) -> Vec<Finding> {
    let demoted = kernels.iter().filter(|kernel| kernel.status == Status::Demoted);
    demoted
        .map(|kernel| {
            let reason = kernel.reason.as_deref().unwrap_or_default();
            let (severity, what) = match (kernel.in_use, kernel.default) {
                (true, _) => {
                    (Verdict::Broken, "is in use and wrong here: name another one with --variant, report it")
                }
                (false, true) => {
                    (Verdict::Broken, "is this device's default and wrong here: please report it")
                }
                (false, false) => (Verdict::Warnings, "is wrong here and never taken"),
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
        .map(|limit| broken(format!("{} is {}, and wgpt needs {}", limit.name, limit.offered, limit.floor)));
    let problem = floor.problem.iter().map(|problem| broken(problem.clone()));
    let kernels = floor.kernels.iter().filter(|kernel| kernel.status == Status::Demoted).map(|kernel| {
        let reason = kernel.reason.as_deref().unwrap_or_default();
        broken(format!("{}={} is wrong on the portable floor: {reason}", kernel.op, kernel.variant))
    });
    below.chain(problem).chain(kernels).collect()
}

/// What a device lacks that cannot run an implementation.
pub(super) fn lacks(needs: Needs) -> String {
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
    fn a_slow_way_is_a_warning() {
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
    fn a_wrong_kernel_is_as_bad_as_its_use() {
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
    fn a_floor_that_is_not_reached_is_a_fault() {
        let limit = |offered, reaches_floor| LimitSupport { name: "max", offered, floor: 8, reaches_floor };
        let sound = Floor { opened: true, problem: None, kernels: vec![kernel(Status::Passed, true, true)] };
        assert_eq!(floor_findings(&sound, &[limit(8, true)]), []);
        let closed = Floor { problem: Some("refused".to_owned()), ..Floor::default() };
        let wrong = Floor { opened: true, problem: None, kernels: vec![kernel(Status::Demoted, true, true)] };
        for (floor, limit, message) in [
            (&sound, limit(7, false), "max is 7, and wgpt needs 8"),
            (&closed, limit(8, true), "refused"),
            (&wrong, limit(8, true), "on the portable floor: 3 wrong elements"),
        ] {
            let found = floor_findings(floor, &[limit]);
            assert!(found.len() == 1 && found[0].severity == Verdict::Broken, "{found:?}");
            assert!(found[0].message.contains(message), "{found:?}");
        }
    }
}
