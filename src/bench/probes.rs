//! Probes of the roofline: kernels that do a single thing. They are checked like all
//! other kernels.

use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Recorder, Work};
use crate::kernels::{contract, probe_copy, probe_fma, probe_read, probe_step};
use crate::reference;

/// Bytes after an output that must stay zero.
const GUARD_BYTES: usize = 256;

/// Each step moves a value by 1/4096 of its distance from 1. After thousands of steps the
/// value still depends on their number, and it stays bounded.
const FACTOR: f32 = 1.0 - 1.0 / 4096.0;
const OFFSET: f32 = 1.0 / 4096.0;

/// Expected content of an output, without the guard.
enum Expected {
    Bytes(Vec<u8>),
    Floats { values: Vec<f32>, tolerance: f32 },
}

/// A prepared probe.
pub struct Probe {
    name: String,
    dispatches: Vec<Dispatch>,
    outputs: Vec<(GpuBuffer, Vec<u8>, Expected)>,
    bytes: u64,
    flops: u64,
}

impl Probe {
    /// Creates a probe that copies `bytes` (a multiple of 16).
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

    /// Creates a probe that reads `bytes` (a multiple of 16).
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

    /// Creates a probe of multiply-adds in `n_threads` threads (a multiple of 256).
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
        // Results repeat every 256 threads.
        let values: Vec<f32> = (0..n_threads.min(256) * 4)
            .map(|i| reference::probe_fma(i / 4, i % 4, chains, steps, FACTOR, OFFSET))
            .collect();
        // A step without fused multiply-add rounds twice, values are at most 5, and
        // FACTOR attenuates errors older than 4096 steps.
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

    /// Creates a probe of `n` minimal dispatches. If they are `dependent`, they share one
    /// buffer, so each depends on the one before. Otherwise each has a separate buffer.
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

    /// Returns the dispatches, for a benchmark that encodes them itself.
    #[must_use]
    pub fn dispatches(&self) -> (&[Dispatch], Work) {
        (&self.dispatches, Work { n_rows: 1, kv_len: 0 })
    }

    /// Returns the bytes that one run reads and writes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the floating-point operations of one run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// Runs the probe once and compares its outputs with the reference.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault or an output is wrong.
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
                    // The comparison is false for NaN.
                    found.iter().zip(values.iter().cycle()).all(|(a, b)| (a - b).abs() <= *tolerance)
                }
            };
            if !right || found[used..].iter().any(|&byte| byte != 0) {
                let message = format!("{}: the result is wrong, so its speed is not used", self.name);
                return Err(Error::Gpu { operation: "check", message });
            }
        }
        Ok(())
    }
}

/// Returns `n` distinct packs.
fn source(n: usize) -> Vec<[u32; 4]> {
    // Knuth's multiplicative hash.
    let word = |i: u32| i.wrapping_mul(2_654_435_769);
    (0..n as u32).map(|i| [4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * i + 4].map(word)).collect()
}

/// Allocates an output of `bytes` (a multiple of 16), followed by a guard. All bytes are
/// zero, because wgpu initializes buffers.
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
            // Sizes around the packs of one workgroup.
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
                    // Check twice: a run changes the values in the buffers.
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
    fn bytes_and_operations_are_counted() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        assert_eq!(Probe::copy(&gpu, probe_copy::SHAPES[0], 4096).unwrap().bytes(), 8192);
        // 16 packs per thread, 256 threads.
        assert_eq!(Probe::read(&gpu, probe_read::SHAPES[0], 65_536).unwrap().bytes(), 65_536 + 4096);
        // 256 threads, 10 iterations of 4 steps, 2 chains of 4 elements, 2 operations.
        assert_eq!(Probe::fma(&gpu, probe_fma::SHAPES[0], 256, 10).unwrap().flops(), 256 * 10 * 4 * 8 * 2);
    }
}
