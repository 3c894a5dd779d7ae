//! The probes of a roofline: kernels that do one thing, checked as all others
//! are.

use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Recorder, Work};
use crate::kernels::{contract, probe_copy, probe_fma, probe_read, probe_step};
use crate::reference;

/// Bytes behind an output that must stay zero.
const GUARD_BYTES: usize = 256;

/// Every value moves by a 4096th of its distance from 1: after some thousands
/// of steps it still shows how many there were, and it stays bounded.
const FACTOR: f32 = 1.0 - 1.0 / 4096.0;
const OFFSET: f32 = 1.0 / 4096.0;

/// What an output must hold, guard excluded.
enum Expected {
    Bytes(Vec<u8>),
    Floats { values: Vec<f32>, tolerance: f32 },
}

/// A probe ready to run.
pub struct Probe {
    name: String,
    dispatches: Vec<Dispatch>,
    outputs: Vec<(GpuBuffer, Vec<u8>, Expected)>,
    bytes: u64,
    flops: u64,
}

impl Probe {
    /// A copy of `bytes` (a multiple of 16).
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Recorder::dispatch`].
    pub fn copy(gpu: &Gpu, shape: probe_copy::PackShape, bytes: usize) -> Result<Self> {
        let x = source(bytes / probe_copy::PACK_BYTES);
        let x: &[u8] = bytemuck::cast_slice(&x);
        let source = gpu.allocate_with("probe source", x, MemoryGroup::Activations)?;
        let out = output(gpu, bytes)?;
        let n = bytes / probe_copy::PACK_BYTES;
        let dispatches = record(gpu, |recorder| probe_copy::record(recorder, shape, n, &source, &out))?;
        let expected = Expected::Bytes(reference::probe_copy(x));
        Ok(Probe {
            name: format!("probe_copy {}", shape.name),
            dispatches,
            outputs: vec![(out, Vec::new(), expected)],
            bytes: 2 * bytes as u64,
            flops: 0,
        })
    }

    /// A read of `bytes` (a multiple of 16).
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Recorder::dispatch`].
    pub fn read(gpu: &Gpu, shape: probe_copy::PackShape, bytes: usize) -> Result<Self> {
        let n = bytes / probe_copy::PACK_BYTES;
        let x = source(n);
        let input = gpu.allocate_with("probe source", bytemuck::cast_slice(&x), MemoryGroup::Activations)?;
        let n_threads = probe_read::threads(shape, n);
        let written = n_threads * probe_copy::PACK_BYTES;
        let out = output(gpu, written)?;
        let dispatches = record(gpu, |recorder| probe_read::record(recorder, shape, n, &input, &out))?;
        let folded: Vec<[u32; 4]> =
            (0..n_threads).map(|thread| reference::probe_read(&x, shape.packs(thread))).collect();
        let expected = Expected::Bytes(bytemuck::cast_slice(&folded).to_vec());
        Ok(Probe {
            name: format!("probe_read {}", shape.name),
            dispatches,
            outputs: vec![(out, Vec::new(), expected)],
            bytes: (bytes + written) as u64,
            flops: 0,
        })
    }

    /// `n_threads` threads (a multiple of 256) of multiply-adds.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Recorder::dispatch`].
    pub fn fma(gpu: &Gpu, shape: probe_fma::FmaShape, n_threads: usize, iterations: usize) -> Result<Self> {
        let out = output(gpu, n_threads * 16)?;
        let params = probe_fma::ProbeFmaParams {
            iterations: iterations as u32,
            factor: FACTOR,
            offset: OFFSET,
            unused: 0,
        };
        let dispatches = record(gpu, |recorder| probe_fma::record(recorder, shape, n_threads, params, &out))?;
        let (chains, steps) = (shape.chains as usize, iterations * probe_fma::UNROLL);
        // Threads repeat after 256.
        let values: Vec<f32> = (0..n_threads.min(256) * 4)
            .map(|i| reference::probe_fma(i / 4, i % 4, chains, steps, FACTOR, OFFSET))
            .collect();
        // A step rounds twice where fma is not fused, values are at most 5, and
        // FACTOR damps what is older than 4096 steps.
        let rounding = 2.0 * 5.0 * f32::EPSILON / 2.0 * (steps + 2).min(4096) as f32;
        let expected = Expected::Floats { values, tolerance: rounding * chains as f32 };
        Ok(Probe {
            name: format!("probe_fma {}", shape.name),
            dispatches,
            outputs: vec![(out, Vec::new(), expected)],
            bytes: (n_threads * 16) as u64,
            flops: shape.flops(n_threads, iterations),
        })
    }

    /// `n` smallest dispatches: on one buffer, each behind the one before, or
    /// on a buffer each.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Recorder::dispatch`].
    pub fn steps(gpu: &Gpu, n: usize, dependent: bool) -> Result<Self> {
        const INCREMENT: u32 = 3;
        let bytes = probe_step::ELEMS * 4;
        let buffers = if dependent { 1 } else { n };
        let steps_each = n / buffers;
        let mut outputs = Vec::with_capacity(buffers);
        for index in 0..buffers as u32 {
            let mut x: Vec<u32> = (0..probe_step::ELEMS as u32).map(|i| index * 1000 + i).collect();
            let initial = bytemuck::cast_slice(&x).to_vec();
            for _ in 0..steps_each {
                x = reference::probe_step(&x, INCREMENT);
            }
            outputs.push((output(gpu, bytes)?, initial, Expected::Bytes(bytemuck::cast_slice(&x).to_vec())));
        }
        let dispatches = record(gpu, |recorder| {
            (0..n).try_for_each(|i| probe_step::record(recorder, INCREMENT, &outputs[i % buffers].0))
        })?;
        let kind = if dependent { "dependent" } else { "independent" };
        Ok(Probe {
            name: format!("probe_step {n} {kind}"),
            dispatches,
            outputs,
            bytes: (2 * n * bytes) as u64,
            flops: 0,
        })
    }

    /// The work, for a benchmark to encode by itself.
    #[must_use]
    pub fn dispatches(&self) -> (&[Dispatch], Work) {
        (&self.dispatches, Work { n_rows: 1, kv_len: 0 })
    }

    /// Bytes read and written by a run.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Floating-point operations of a run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// Runs the probe once and compares its outputs with the reference.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault or an output is wrong.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        for (buffer, initial, _) in &self.outputs {
            gpu.upload(buffer, 0, initial)?;
        }
        let (dispatches, work) = self.dispatches();
        gpu.run(dispatches, work)?;
        for (buffer, _, expected) in &self.outputs {
            let found = gpu.read_buffer(buffer)?;
            let used = found.len() - GUARD_BYTES;
            let right = match expected {
                Expected::Bytes(bytes) => found[..used] == bytes[..],
                Expected::Floats { values, tolerance } => {
                    let found: &[f32] = bytemuck::cast_slice(&found[..used]);
                    // A NaN is not within any tolerance.
                    found.iter().zip(values.iter().cycle()).all(|(a, b)| (a - b).abs() <= *tolerance)
                }
            };
            if !right || found[used..].iter().any(|&byte| byte != 0) {
                let message =
                    format!("{}: the result is wrong, so that no speed is taken from it", self.name);
                return Err(Error::Gpu { operation: "check", message });
            }
        }
        Ok(())
    }
}

/// `n` packs of which no two are alike.
fn source(n: usize) -> Vec<[u32; 4]> {
    // Knuth's multiplicative hash.
    let word = |i: u32| i.wrapping_mul(2_654_435_769);
    (0..n as u32).map(|i| [4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * i + 4].map(word)).collect()
}

/// An output of `bytes` (a multiple of 16) with a guard behind, all zero: so
/// wgpu hands buffers out.
fn output(gpu: &Gpu, bytes: usize) -> Result<GpuBuffer> {
    let size = (bytes + GUARD_BYTES) as u64;
    gpu.allocate("probe output", size, BufferUse::Storage, MemoryGroup::Activations)
}

fn record(gpu: &Gpu, with: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<Vec<Dispatch>> {
    let mut params = Params::new(gpu, 1)?;
    let mut recorder = contract::recorder(gpu, &mut params);
    with(&mut recorder)?;
    Ok(recorder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    fn devices() -> [Gpu; 3] {
        let floor = GpuOptions { features_floor: true, ..GpuOptions::default() };
        let checked = GpuOptions { checked_shaders: true, ..GpuOptions::default() };
        [GpuOptions::default(), floor, checked].map(|options| Gpu::open(&options).expect("an adapter"))
    }

    #[test]
    fn probes_match_their_reference() {
        for gpu in devices() {
            // Around the packs of a workgroup.
            let sizes = |shape: probe_copy::PackShape| {
                let run = (shape.workgroup_size * shape.items) as usize * 16;
                [16, run - 16, run, run + 16, 3 * run + 48]
            };
            for shape in probe_copy::SHAPES {
                for bytes in sizes(shape) {
                    Probe::copy(&gpu, shape, bytes).unwrap().check(&gpu).unwrap();
                }
            }
            for shape in probe_read::SHAPES {
                for bytes in sizes(shape) {
                    Probe::read(&gpu, shape, bytes).unwrap().check(&gpu).unwrap();
                }
            }
            for shape in probe_fma::SHAPES {
                for (n_threads, iterations) in [(256, 1), (256, 0), (768, 500)] {
                    Probe::fma(&gpu, shape, n_threads, iterations).unwrap().check(&gpu).unwrap();
                }
            }
            for n in [1, 2, 40] {
                for dependent in [true, false] {
                    let probe = Probe::steps(&gpu, n, dependent).unwrap();
                    // Twice: a run leaves other values behind than it found.
                    probe.check(&gpu).unwrap();
                    probe.check(&gpu).unwrap();
                }
            }
        }
    }

    #[test]
    fn wrong_results_are_refused() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let mut probe = Probe::fma(&gpu, probe_fma::SHAPES[0], 256, 4).unwrap();
        if let Expected::Floats { values, tolerance } = &mut probe.outputs[0].2 {
            values[777] += 2.0 * *tolerance;
        }
        let error = probe.check(&gpu).unwrap_err().to_string();
        assert!(error.contains("probe_fma 8x2: the result is wrong"), "{error}");
        let mut probe = Probe::steps(&gpu, 2, true).unwrap();
        probe.dispatches.pop();
        assert!(probe.check(&gpu).is_err());
    }

    #[test]
    fn work_is_counted() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        assert_eq!(Probe::copy(&gpu, probe_copy::SHAPES[0], 4096).unwrap().bytes(), 8192);
        // 16 packs a thread and 256 threads.
        assert_eq!(Probe::read(&gpu, probe_read::SHAPES[0], 65_536).unwrap().bytes(), 65_536 + 4096);
        // 256 threads, 10 turns of 4 steps, 2 chains of 4 elements, 2 operations.
        assert_eq!(Probe::fma(&gpu, probe_fma::SHAPES[0], 256, 10).unwrap().flops(), 256 * 10 * 4 * 8 * 2);
    }
}
