//! GPU timestamps: the times at which compute passes began and ended on the GPU.

use super::{BufferUse, Encoder, Gpu, GpuBuffer, MemoryGroup, Pass, Readback};
use crate::error::Result;

/// The number of passes per query set. Each pass writes two queries.
const PASSES_PER_SET: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Size of a pass's two timestamps in bytes.
const PASS_BYTES: usize = 2 * wgpu::QUERY_SIZE as usize;

/// The time of a pass, in nanoseconds of the GPU's clock since the beginning of the
/// earliest pass in the same readback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassTime {
    /// The time at which it began.
    pub begin_ns: u64,
    /// The time at which it ended, which is never before it began.
    pub end_ns: u64,
}

impl PassTime {
    /// Returns the duration in nanoseconds.
    #[must_use]
    pub const fn duration_ns(self) -> u64 {
        self.end_ns - self.begin_ns
    }
}

/// Query sets and buffers for the timestamps of up to `n_passes` passes. They are created
/// once and used for many submits.
///
/// Only whole passes are timed. To time an item separately, put it in its own pass
/// ([`Encoder::timed_pass`]). Such a pass also waits for earlier passes whose output it
/// reads.
#[derive(Debug)]
pub struct Timestamps {
    sets: Vec<wgpu::QuerySet>,
    resolved: GpuBuffer,
    readback: Readback,
    n_passes: usize,
    /// Nanoseconds per tick.
    period_ns: f64,
}

impl Timestamps {
    /// Creates timestamps for `n_passes` passes, at least one. Returns `None` if the
    /// device has no timestamps, because the adapter lacks them or the options requested
    /// the feature floor.
    /// feature floor.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, n_passes: usize) -> Result<Option<Self>> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let n_passes = n_passes.max(1);
        let mut sets = Vec::new();
        for first in (0..n_passes).step_by(PASSES_PER_SET) {
            let count = 2 * (n_passes - first).min(PASSES_PER_SET) as u32;
            sets.push(gpu.create_query_set("timestamps", wgpu::QueryType::Timestamp, count)?);
        }
        let bytes = (n_passes * PASS_BYTES) as u64;
        let resolved = gpu.allocate("timestamps", bytes, BufferUse::Queries, MemoryGroup::Transfer)?;
        let readback = Readback::new(gpu, bytes)?;
        let period_ns = f64::from(gpu.queue.get_timestamp_period());
        Ok(Some(Timestamps { sets, resolved, readback, n_passes, period_ns }))
    }

    /// Returns the maximum number of passes.
    #[must_use]
    pub fn n_passes(&self) -> usize {
        self.n_passes
    }

    /// Submits `encoder`, waits for it and reads the times of passes `0..n_passes`. Each
    /// of them must have been encoded in this encoder or in one that was submitted
    /// earlier.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    pub fn submit_and_read(
        &mut self,
        gpu: &Gpu,
        mut encoder: Encoder,
        n_passes: usize,
    ) -> Result<Vec<PassTime>> {
        assert!(n_passes <= self.n_passes, "more passes than timestamps");
        if n_passes == 0 {
            encoder.submit(gpu)?;
            return Ok(Vec::new());
        }
        for (set, first) in self.sets.iter().zip((0..n_passes).step_by(PASSES_PER_SET)) {
            let count = 2 * (n_passes - first).min(PASSES_PER_SET) as u32;
            encoder.resolve(set, count, &self.resolved, (first * PASS_BYTES) as u64);
        }
        let bytes = (n_passes * PASS_BYTES) as u64;
        self.readback.copy_from(&mut encoder, &self.resolved, bytes);
        let period = self.period_ns;
        self.readback.submit_and_read(gpu, encoder, bytes, || Ok(()), |bytes| pass_times(bytes, period))
    }
}

impl Encoder {
    /// Encodes one compute pass, like [`Encoder::pass`]. Its beginning and end become
    /// entry `index` of `timestamps`.
    pub fn timed_pass(&mut self, timestamps: &Timestamps, index: usize, encode: impl FnOnce(&mut Pass<'_>)) {
        assert!(index < timestamps.n_passes, "more passes than timestamps");
        let entry = 2 * (index % PASSES_PER_SET) as u32;
        self.pass_with(
            Some(wgpu::ComputePassTimestampWrites {
                query_set: &timestamps.sets[index / PASSES_PER_SET],
                beginning_of_pass_write_index: Some(entry),
                end_of_pass_write_index: Some(entry + 1),
            }),
            encode,
        );
    }
}

/// Converts pairs of ticks to times since the earliest beginning. Ticks are u64, but some
/// drivers fill only the lower bits. If the counter wraps around during a pass, the pass
/// gets duration 0.
fn pass_times(bytes: &[u8], period_ns: f64) -> Vec<PassTime> {
    let tick = |bytes: &[u8]| bytemuck::pod_read_unaligned::<u64>(bytes);
    let ticks: Vec<(u64, u64)> =
        bytes.chunks_exact(PASS_BYTES).map(|pair| (tick(&pair[..8]), tick(&pair[8..]))).collect();
    let first = ticks.iter().map(|&(begin, _)| begin).min().unwrap_or(0);
    let nanoseconds = |tick: u64| (tick.saturating_sub(first) as f64 * period_ns).round() as u64;
    ticks
        .into_iter()
        .map(|(begin, end)| {
            let begin_ns = nanoseconds(begin);
            PassTime { begin_ns, end_ns: nanoseconds(end).max(begin_ns) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{GpuOptions, Work};

    #[test]
    fn ticks_become_nanoseconds_since_the_first_pass_began() {
        let ticks: [u64; 6] = [1_000, 1_010, 996, 1_000, 1_020, 1_015];
        let time = |begin_ns, end_ns| PassTime { begin_ns, end_ns };
        // The last pass ends before it begins, because the counter wrapped around.
        let expected = [time(10, 35), time(0, 10), time(60, 60)];
        assert_eq!(pass_times(bytemuck::cast_slice(&ticks), 2.5), expected);
        assert_eq!(expected[0].duration_ns(), 25);
        assert!(pass_times(&[], 1.0).is_empty());
    }

    fn read(gpu: &Gpu, timestamps: &mut Timestamps, n_passes: usize) -> Vec<PassTime> {
        let mut encoder = gpu.encoder().unwrap();
        for index in 0..n_passes {
            encoder.timed_pass(timestamps, index, |pass| pass.run(&[], Work { n_rows: 1, kv_len: 0 }));
        }
        timestamps.submit_and_read(gpu, encoder, n_passes).unwrap()
    }

    #[test]
    fn passes_of_several_sets_are_read_in_order_and_counted() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let before = gpu.ledger().total_bytes();
        let n_passes = PASSES_PER_SET + 3;
        let made = Timestamps::new(&gpu, n_passes).unwrap();
        assert_eq!(made.is_some(), gpu.report().timestamps);
        let Some(mut timestamps) = made else { return };
        assert_eq!(gpu.ledger().total_bytes() - before, 2 * (n_passes * PASS_BYTES) as u64);
        // Fewer passes than the maximum, then all.
        for n in [0, 1, n_passes] {
            let times = read(&gpu, &mut timestamps, n);
            assert_eq!(times.len(), n);
            assert!(times.windows(2).all(|pair| pair[0].begin_ns <= pair[1].begin_ns), "out of order");
        }
        drop(timestamps);
        assert_eq!(gpu.ledger().total_bytes(), before);
    }

    #[test]
    fn the_floor_has_no_timestamps() {
        let options = GpuOptions { features_floor: true, ..GpuOptions::default() };
        let gpu = Gpu::open(&options).expect("an adapter");
        assert!(Timestamps::new(&gpu, 1).unwrap().is_none());
    }
}
