//! Checks of every implementation of every operation against its reference.

use serde::Serialize;

use super::report::missing_features;
use super::surroundings::shown;
use super::{Step, guarded};
use crate::conformance::{Shapes, canary};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{Candidate, Choices, Op};
use crate::tensor::DType;

/// Result of the check of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The implementation agrees with the reference.
    Passed,
    /// The implementation is wrong on this device, or the driver refuses it.
    Demoted,
    /// The device lacks a feature that the implementation needs, or the implementation is
    /// too imprecise for the model's types.
    Unavailable,
}

impl Status {
    /// Returns the name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Demoted => "demoted",
            Status::Unavailable => "unavailable",
        }
    }
}

/// Check of one implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCheck {
    /// Operation that it implements.
    pub op: Op,
    /// Name of the implementation within the operation.
    pub variant: &'static str,
    /// Result of the check.
    pub status: Status,
    /// Fault that demoted it, or feature that it lacks.
    pub reason: Option<String>,
    /// Whether this device uses it when untuned.
    pub default: bool,
    /// Whether the model runs with it, because it is tuned, forced or the default.
    pub in_use: bool,
}

/// Implementations that run on a device.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub default: Choices,
    pub in_use: Choices,
}

/// Checks `candidate`. A panic in wgpu or in the check itself demotes the candidate.
pub(super) fn check(
    gpu: &Gpu,
    candidate: &'static Candidate,
    running: &Running,
    shapes: &Shapes,
) -> KernelCheck {
    let too_coarse = candidate.rounds_to_f16() && shapes.dtype == DType::F32;
    let (status, reason) = if !candidate.runs_on(&gpu.capabilities()) {
        (Status::Unavailable, Some(missing_features(candidate.needs)))
    } else if too_coarse {
        (Status::Unavailable, Some("rounds to f16, but weights in f32 must stay exact".to_owned()))
    } else {
        let check = || Ok(canary::check(gpu, candidate, &running.in_use, shapes));
        match guarded("check", check) {
            Ok(None) => (Status::Passed, None),
            Ok(Some(dropped)) => (Status::Demoted, Some(shown(&dropped.reason))),
            Err(panic) => (Status::Demoted, Some(shown(&panic.to_string()))),
        }
    };
    KernelCheck {
        op: candidate.op,
        variant: candidate.name,
        status,
        reason,
        default: running.default.get(candidate.op) == candidate,
        in_use: running.in_use.get(candidate.op) == candidate,
    }
}

/// Checks `candidates` one by one.
///
/// # Errors
/// [`crate::Error::Cancelled`].
pub(super) fn check_all(
    gpu: &Gpu,
    candidates: &[&'static Candidate],
    running: &Running,
    shapes: &Shapes,
    step: &mut Step<'_>,
) -> Result<Vec<KernelCheck>> {
    let each = candidates.iter().map(|candidate| {
        step.next(&candidate.to_string())?;
        Ok(check(gpu, candidate, running, shapes))
    });
    each.collect()
}
