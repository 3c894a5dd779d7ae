//! Measured limits of the adapter: bandwidth, arithmetic, and the cost of a dispatch.

use serde::{Deserialize, Serialize};

use super::probes::Probe;
use super::statistics::Spread;
use super::timing::{Budget, Clock, Stopwatch};
use crate::conformance::cases::Cost;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{probe_copy, probe_fma, probe_read};

/// Measurement of one shape of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// Name of the probe: copy, read or fma.
    pub probe: String,
    /// Name of the shape: threads per workgroup and work per thread.
    pub shape: String,
    /// Bytes read and written.
    pub bytes: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// Time of one run.
    #[serde(flatten)]
    pub time: Spread,
    /// Bytes (copy, read) or floating-point operations (fma) per second.
    pub per_second: f64,
}

/// Time of a pass of minimal dispatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Dispatches in the pass.
    pub n_dispatches: usize,
    /// Whether each dispatch reads the output of the one before it.
    pub dependent: bool,
    /// Time of the pass by the GPU's clock, if the GPU's clock is in use.
    pub gpu: Option<Spread>,
    /// Time by the host's clock of encoding, submit, pass and wait.
    pub wall: Spread,
}

impl LatencyRow {
    /// Returns the nanoseconds per dispatch, by the GPU's clock if there is one.
    #[must_use]
    pub fn per_dispatch_ns(&self) -> f64 {
        self.gpu.unwrap_or(self.wall).median_ns / self.n_dispatches as f64
    }
}

/// Resource that bounds an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Memory bandwidth.
    Bandwidth,
    /// Arithmetic.
    Compute,
}

/// Limits of the adapter, as measured with wgpt's own kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// Bytes read and written per second by the fastest copy or read.
    pub bytes_per_second: f64,
    /// f32 operations per second of the fastest multiply-add probe.
    pub flops_per_second: f64,
    /// Clock that took the times of the probes.
    pub clock: Clock,
    /// Median wall time of a submit with one minimal dispatch. Every wall time includes
    /// it.
    pub overhead_ns: f64,
    /// All probe shapes that were measured.
    pub probes: Vec<ProbeRow>,
    /// Cost of dispatches.
    pub latency: Vec<LatencyRow>,
}

/// Number of bytes that the copy reads; it writes as many. They exceed every cache except
/// a server CPU's last-level cache. A GPU's L2 cache has up to 96 MiB.
const COPY_BYTES: usize = 128 << 20;
/// The same for software adapters, on which it takes 20 ms.
const COPY_BYTES_SOFTWARE: usize = 64 << 20;
/// Threads and iterations of the multiply-add probe. They fill all lanes of the largest
/// GPUs for a few tenths of a millisecond.
const FMA: (usize, usize) = (1 << 20, 256);
/// The same for software adapters, on which it takes a few milliseconds with two cores.
const FMA_SOFTWARE: (usize, usize) = (1 << 12, 512);
/// Numbers of dispatches in the latency probes.
const LATENCY_COUNTS: [usize; 3] = [1, 64, 200];

impl Roofline {
    /// Measures all probes. `progress` receives the name of each probe before it runs.
    /// Copies and reads cover `probe_bytes`, or a size that suits the adapter.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`]; [`crate::Error::Gpu`] if a probe's result is wrong;
    /// other errors of the device.
    pub fn measure(
        gpu: &Gpu,
        stopwatch: &mut Stopwatch<'_>,
        budget: Budget,
        probe_bytes: Option<u64>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let latency = latency(gpu, stopwatch, budget, progress)?;
        let overhead_ns = latency.first().map_or(0.0, |row| row.wall.median_ns);
        let software = gpu.report().is_software();
        let bytes = copy_bytes(gpu, probe_bytes);
        let (n_threads, iterations) = if software { FMA_SOFTWARE } else { FMA };
        let mut probes = Vec::new();
        for shape in probe_copy::SHAPES {
            progress(&format!("copy {}", shape.name));
            let probe = Probe::copy(gpu, shape, bytes)?;
            probes.push(row(gpu, stopwatch, budget, overhead_ns, ("copy", shape.name), &probe)?);
        }
        for shape in probe_read::SHAPES {
            progress(&format!("read {}", shape.name));
            let probe = Probe::read(gpu, shape, bytes)?;
            probes.push(row(gpu, stopwatch, budget, overhead_ns, ("read", shape.name), &probe)?);
        }
        for shape in probe_fma::SHAPES {
            progress(&format!("fma {}", shape.name));
            let probe = Probe::fma(gpu, shape, n_threads, iterations)?;
            probes.push(row(gpu, stopwatch, budget, overhead_ns, ("fma", shape.name), &probe)?);
        }
        let best = |of_fma: bool| {
            let rates = probes.iter().filter(|row| (row.probe == "fma") == of_fma).map(|row| row.per_second);
            rates.fold(0.0, f64::max)
        };
        let (bytes_per_second, flops_per_second) = (best(false), best(true));
        let clock = stopwatch.clock();
        Ok(Roofline { bytes_per_second, flops_per_second, clock, overhead_ns, probes, latency })
    }

    /// Returns the fastest shape of `probe`.
    #[must_use]
    pub fn best(&self, probe: &str) -> Option<&ProbeRow> {
        let rows = self.probes.iter().filter(|row| row.probe == probe);
        rows.max_by(|a, b| a.per_second.total_cmp(&b.per_second))
    }

    /// Returns the fastest shape of the copy probe, or the first shape if none was
    /// measured.
    #[must_use]
    pub fn best_copy(&self) -> probe_copy::PackShape {
        let best = self.best("copy").map(|row| row.shape.as_str());
        let mut shapes = probe_copy::SHAPES.into_iter();
        shapes.find(|shape| Some(shape.name) == best).unwrap_or(probe_copy::SHAPES[0])
    }

    /// Returns the minimum time in nanoseconds for the work of `cost`, and the resource
    /// that bounds it (Williams, Waterman and Patterson 2009, "Roofline").
    #[must_use]
    pub fn minimum_ns(&self, cost: Cost) -> (f64, Bound) {
        let moved = cost.bytes as f64 / self.bytes_per_second.max(1.0) * 1e9;
        let computed = cost.flops as f64 / self.flops_per_second.max(1.0) * 1e9;
        if computed > moved { (computed, Bound::Compute) } else { (moved, Bound::Bandwidth) }
    }
}

/// Returns the nanoseconds of the work itself. For a wall time, this is the median minus
/// the submit overhead. It is `None` if the median is at most 1.5 times the overhead.
#[must_use]
pub fn net_ns(clock: Clock, median_ns: f64, overhead_ns: f64) -> Option<f64> {
    match clock {
        Clock::Gpu => (median_ns > 0.0).then_some(median_ns),
        Clock::Wall => (median_ns > 1.5 * overhead_ns).then_some(median_ns - overhead_ns),
    }
}

/// Returns the bytes of a copy or read probe: `requested`, or a size that suits the
/// adapter. The largest binding limits it.
pub(super) fn copy_bytes(gpu: &Gpu, requested: Option<u64>) -> usize {
    // Guard words follow the copy in its buffer.
    let max_bytes = (gpu.max_binding_bytes() as usize).saturating_sub(4096).max(4096) / 16 * 16;
    let suitable = if gpu.report().is_software() { COPY_BYTES_SOFTWARE } else { COPY_BYTES };
    max_bytes.min(requested.map_or(suitable, |bytes| bytes as usize / 16 * 16))
}

/// Checks a probe and times it.
pub(super) fn row(
    gpu: &Gpu,
    stopwatch: &mut Stopwatch<'_>,
    budget: Budget,
    overhead_ns: f64,
    (probe, shape): (&str, &str),
    ready: &Probe,
) -> Result<ProbeRow> {
    ready.check(gpu)?;
    let time = Spread::of(&stopwatch.time(ready.dispatches(), None, budget)?);
    let amount = if ready.flops() > 0 { ready.flops() } else { ready.bytes() };
    let net = net_ns(stopwatch.clock(), time.median_ns, overhead_ns);
    Ok(ProbeRow {
        probe: probe.to_owned(),
        shape: shape.to_owned(),
        bytes: ready.bytes(),
        flops: ready.flops(),
        time,
        per_second: net.map_or(0.0, |ns| amount as f64 * 1e9 / ns),
    })
}

fn latency(
    gpu: &Gpu,
    stopwatch: &mut Stopwatch<'_>,
    budget: Budget,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<LatencyRow>> {
    let mut rows = Vec::new();
    for dependent in [true, false] {
        for n_dispatches in LATENCY_COUNTS {
            progress(&format!("dispatch {n_dispatches}"));
            rows.push(latency_row(gpu, stopwatch, budget, n_dispatches, dependent)?);
        }
    }
    Ok(rows)
}

/// Checks and times a pass of minimal dispatches.
pub(super) fn latency_row(
    gpu: &Gpu,
    stopwatch: &mut Stopwatch<'_>,
    budget: Budget,
    n_dispatches: usize,
    dependent: bool,
) -> Result<LatencyRow> {
    let probe = Probe::steps(gpu, n_dispatches, dependent)?;
    probe.check(gpu)?;
    let gpu_time = match stopwatch.clock() {
        Clock::Gpu => Some(Spread::of(&stopwatch.time(probe.dispatches(), None, budget)?)),
        Clock::Wall => None,
    };
    let wall = Spread::of(&stopwatch.wall(probe.dispatches(), None, budget)?);
    Ok(LatencyRow { n_dispatches, dependent, gpu: gpu_time, wall })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_memory_and_arithmetic_is_the_bound() {
        let roofline = Roofline {
            bytes_per_second: 1e9,
            flops_per_second: 10e9,
            clock: Clock::Gpu,
            overhead_ns: 100.0,
            probes: Vec::new(),
            latency: Vec::new(),
        };
        let minimum = |bytes, flops| roofline.minimum_ns(Cost { bytes, flops });
        assert_eq!(minimum(1000, 0), (1000.0, Bound::Bandwidth));
        assert_eq!(minimum(1000, 9_999), (1000.0, Bound::Bandwidth));
        assert_eq!(minimum(1000, 20_000), (2000.0, Bound::Compute));
    }

    #[test]
    fn overhead_is_subtracted_from_wall_times_well_above_it() {
        assert_eq!(net_ns(Clock::Gpu, 120.0, 100.0), Some(120.0));
        assert_eq!(net_ns(Clock::Gpu, 0.0, 100.0), None);
        assert_eq!(net_ns(Clock::Wall, 350.0, 100.0), Some(250.0));
        assert_eq!(net_ns(Clock::Wall, 120.0, 100.0), None);
    }

    #[test]
    fn dispatches_are_timed_by_the_better_clock() {
        let spread = |median_ns| Spread { median_ns, ..Spread::default() };
        let row =
            LatencyRow { n_dispatches: 64, dependent: true, gpu: Some(spread(640.0)), wall: spread(6400.0) };
        assert_eq!(row.per_dispatch_ns(), 10.0);
        assert_eq!(LatencyRow { gpu: None, ..row }.per_dispatch_ns(), 100.0);
    }
}
