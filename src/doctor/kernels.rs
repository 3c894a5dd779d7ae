//! Every implementation of every operation against its reference.

use serde::Serialize;

use super::report::lacks;
use super::surroundings::shown;
use super::{Step, guarded};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{Candidate, Choices, Op};
use crate::tensor::DType;
use crate::tune::{Shapes, canary};

/// What became of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It agrees with the reference.
    Passed,
    /// It is wrong here, or the driver refuses it.
    Demoted,
    /// The device, or the model's types, cannot have it.
    Unavailable,
}

impl Status {
    /// The name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Demoted => "demoted",
            Status::Unavailable => "unavailable",
        }
    }
}

/// One implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCheck {
    /// The operation.
    pub op: Op,
    /// Its name among the operation's.
    pub variant: &'static str,
    /// What became of it.
    pub status: Status,
    /// What it did wrong, or what it lacks.
    pub reason: Option<String>,
    /// Whether this device runs it untuned.
    pub default: bool,
    /// Whether the model runs with it: tuned, forced or the default.
    pub in_use: bool,
}

/// What runs on a device.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub default: Choices,
    pub in_use: Choices,
}

/// Checks `candidate`, which panics of wgpu or of its own do not end.
pub(super) fn check(
    gpu: &Gpu,
    candidate: &'static Candidate,
    running: &Running,
    shapes: &Shapes,
) -> KernelCheck {
    let too_coarse = candidate.rounds_to_f16() && shapes.dtype == DType::F32;
    let (status, reason) = if !candidate.runs_on(&gpu.capabilities()) {
        (Status::Unavailable, Some(lacks(candidate.needs)))
    } else if too_coarse {
        (Status::Unavailable, Some("rounds to f16, and weights in f32 are to stay exact".to_owned()))
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

/// Checks `candidates` one after the other.
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
