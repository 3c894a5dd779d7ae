//! A prepared case: its dispatches, outputs and expected results.

use half::f16;

use crate::error::Result;
use crate::gpu::{Dispatch, Gpu, GpuBuffer, MemoryGroup, Work};
use crate::tensor::DType;

/// Fills outputs before they are written, and memory that a kernel must not touch. It is
/// a NaN both as f32 and as each f16 half, so a read of it is detected too.
pub(super) const GUARD: u32 = 0xffe5_ffe5;

/// Bytes of guard after every output.
pub(super) const GUARD_BYTES: usize = 256;

/// Storage format of an output's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// f32 or f16.
    Float(DType),
    /// u32.
    U32,
}

impl Format {
    fn size_bytes(self) -> usize {
        match self {
            Format::Float(dtype) => dtype.size_bytes(),
            Format::U32 => 4,
        }
    }

    fn decode(self, bytes: &[u8]) -> f64 {
        match self {
            Format::Float(DType::F16) => f64::from(bytemuck::pod_read_unaligned::<f16>(bytes)),
            Format::Float(DType::F32) => f64::from(bytemuck::pod_read_unaligned::<f32>(bytes)),
            Format::U32 => f64::from(bytemuck::pod_read_unaligned::<u32>(bytes)),
        }
    }
}

/// Expected content of an output's element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expected {
    /// A value within an absolute error.
    Value { want: f64, tolerance: f64 },
    /// Unchanged bytes: guard, or an element that this op does not own.
    Untouched,
    /// A NaN.
    NotANumber,
    /// Anything.
    Any,
}

impl Expected {
    pub(super) fn exactly(want: f64) -> Self {
        Expected::Value { want, tolerance: 0.0 }
    }
}

/// A buffer that a case writes, and its expected content.
pub(super) struct Output {
    name: &'static str,
    format: Format,
    initial: Vec<u8>,
    expected: Vec<Expected>,
}

impl Output {
    /// Creates an output and its buffer. The buffer contains `initial`, then [`GUARD`] up
    /// to the end, including guard words after the `expected` elements.
    pub(super) fn new(
        gpu: &Gpu,
        name: &'static str,
        format: Format,
        initial: &[u8],
        expected: Vec<Expected>,
    ) -> Result<(Self, GpuBuffer)> {
        let used = expected.len() * format.size_bytes();
        let mut bytes: Vec<u8> = initial.to_vec();
        let total = used.next_multiple_of(16) + GUARD_BYTES;
        let guard = GUARD.to_le_bytes();
        while bytes.len() < total {
            bytes.push(guard[bytes.len() % 4]);
        }
        let buffer = gpu.allocate_with(name, &bytes, MemoryGroup::Activations)?;
        Ok((Output { name, format, initial: bytes, expected }, buffer))
    }

    fn compare(&self, found: &[u8], outcome: &mut Outcome) {
        let size = self.format.size_bytes();
        let used = self.expected.len() * size;
        outcome.stray_writes += stray(&found[used..], &self.initial[used..], 4);
        for (index, expected) in self.expected.iter().enumerate() {
            let at = index * size..(index + 1) * size;
            match *expected {
                Expected::Any => {}
                Expected::NotANumber => {
                    outcome.wrong_elements += usize::from(!self.format.decode(&found[at]).is_nan());
                }
                Expected::Untouched => {
                    outcome.stray_writes += usize::from(found[at.clone()] != self.initial[at]);
                }
                Expected::Value { want, tolerance } => {
                    outcome.element(self.name, index, self.format.decode(&found[at]), want, tolerance);
                }
            }
        }
    }
}

/// Counts the words that differ.
fn stray(found: &[u8], initial: &[u8], size: usize) -> usize {
    found.chunks(size).zip(initial.chunks(size)).filter(|(a, b)| a != b).count()
}

/// Dispatches of a case, with the buffers that they read and write.
pub struct Prepared {
    pub(super) case: String,
    pub(super) reason: &'static str,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) work: Work,
    pub(super) outputs: Vec<(Output, GpuBuffer)>,
}

impl Prepared {
    /// Returns the dispatches, for a benchmark that encodes them itself.
    pub(crate) fn dispatches(&self) -> (&[Dispatch], Work) {
        (&self.dispatches, self.work)
    }

    /// Returns the labels of the variants, without immediate repetitions.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.dispatches.iter().map(Dispatch::label).collect();
        labels.dedup();
        labels
    }

    /// Runs the case once and compares its outputs with the reference.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    pub fn check(&self, gpu: &Gpu) -> Result<Outcome> {
        for (output, buffer) in &self.outputs {
            // This also restores values to which an op adds.
            gpu.upload(buffer, 0, &output.initial)?;
        }
        gpu.run(&self.dispatches, self.work)?;
        let mut outcome = Outcome {
            case: self.case.clone(),
            variant: self.labels().join(" + "),
            max_error: 0.0,
            tolerance: f64::INFINITY,
            reason: self.reason,
            worst: None,
            wrong_elements: 0,
            stray_writes: 0,
        };
        for (output, buffer) in &self.outputs {
            output.compare(&gpu.read_buffer(buffer)?, &mut outcome);
        }
        Ok(outcome)
    }
}

/// Result of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case as text.
    pub case: String,
    /// Labels of the variants that ran.
    pub variant: String,
    /// Absolute error of the element that came closest to its tolerance or exceeded it
    /// the most.
    pub max_error: f64,
    /// Absolute error that is tolerated for this element.
    pub tolerance: f64,
    /// Reason for the tolerance.
    pub reason: &'static str,
    /// The element itself: output, index, found value, expected value.
    pub worst: Option<(&'static str, usize, f64, f64)>,
    /// Number of elements beyond their tolerance, including padding.
    pub wrong_elements: usize,
    /// Number of changed guard words, and of changed elements that belong to another op.
    pub stray_writes: usize,
}

impl Outcome {
    /// Returns whether all elements are right and no guard was overwritten.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.wrong_elements == 0 && self.guards_intact()
    }

    /// Describes the fault.
    #[must_use]
    pub fn fault(&self) -> String {
        format!(
            "{} wrong elements, {} stray writes, error {:.3e} where {:.3e} is tolerated",
            self.wrong_elements, self.stray_writes, self.max_error, self.tolerance
        )
    }

    /// Returns whether there were no stray writes.
    #[must_use]
    pub fn guards_intact(&self) -> bool {
        self.stray_writes == 0
    }

    fn element(&mut self, output: &'static str, index: usize, found: f64, want: f64, tolerance: f64) {
        // NaN is close to nothing. Infinity is close only to itself.
        let error = if found == want {
            0.0
        } else if (found - want).is_nan() {
            f64::INFINITY
        } else {
            (found - want).abs()
        };
        if error > tolerance {
            self.wrong_elements += 1;
        }
        let ratio = |error: f64, tolerance: f64| if error == 0.0 { 0.0 } else { error / tolerance };
        if self.worst.is_none() || ratio(error, tolerance) > ratio(self.max_error, self.tolerance) {
            self.max_error = error;
            self.tolerance = tolerance;
            self.worst = Some((output, index, found, want));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            case: String::new(),
            variant: String::new(),
            max_error: 0.0,
            tolerance: f64::INFINITY,
            reason: "",
            worst: None,
            wrong_elements: 0,
            stray_writes: 0,
        }
    }

    #[test]
    fn the_worst_element_has_the_largest_error_per_tolerance() {
        let mut o = outcome();
        o.element("out", 0, 1.0, 1.0, 0.0);
        o.element("out", 1, 1.0, 1.5, 1.0);
        o.element("out", 2, 1.0, 1.1, 1.0);
        assert_eq!((o.worst.map(|w| w.1), o.wrong_elements), (Some(1), 0));
        assert!(o.passed());
        o.element("out", 3, f64::NAN, 1.0, 1.0);
        assert_eq!((o.worst.map(|w| w.1), o.wrong_elements), (Some(3), 1));
        assert!(!o.passed());
    }

    #[test]
    fn exact_elements_have_no_tolerance() {
        let mut o = outcome();
        o.element("out", 0, 1.0, 1.0, 1e-3);
        o.element("out", 1, 1e-9, 0.0, 0.0);
        o.element("out", 2, 1.1, 1.0, 1e-3);
        assert_eq!((o.worst.map(|w| w.1), o.wrong_elements), (Some(1), 2));
    }

    #[test]
    fn changed_guard_words_are_counted() {
        assert_eq!(stray(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4, 5, 6, 7, 9], 4), 1);
    }
}
