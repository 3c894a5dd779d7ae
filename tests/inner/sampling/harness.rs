//! Runs the sampler's kernels on rows of logits.

use wgpt::internals::gpu::{BufferUse, Dispatch, GpuBuffer, Params, Recorder, Work};
use wgpt::internals::kernels::sample::{
    self, RESULT_BYTES, Sample, SampleParams, SampleScratch, SampleState,
};
use wgpt::{Gpu, MemoryGroup, Result, Sampler, SamplingParams};

const WORK: Work = Work { n_rows: 1, kv_len: 0 };

/// Recorded kernels with their buffers.
pub struct GpuSampler<'g> {
    gpu: &'g Gpu,
    dispatches: Vec<Dispatch>,
    pub logits: GpuBuffer,
    pub params: GpuBuffer,
    pub state: GpuBuffer,
    pub results: GpuBuffer,
    pub token_ids: GpuBuffer,
}

impl<'g> GpuSampler<'g> {
    /// Records for rows of `n` logits and a ring of `n_slots` results.
    pub fn new(gpu: &'g Gpu, n: usize, n_slots: usize) -> Self {
        Self::recorded(gpu, n, n_slots, sample::record)
    }

    /// The same, for greedy parameters only.
    pub fn greedy(gpu: &'g Gpu, n: usize, n_slots: usize) -> Self {
        Self::recorded(gpu, n, n_slots, sample::record_greedy)
    }

    fn recorded(
        gpu: &'g Gpu,
        n: usize,
        n_slots: usize,
        record: impl Fn(&mut Recorder<'_>, &Sample<'_>) -> Result<()>,
    ) -> Self {
        let buffer =
            |bytes: u64| gpu.allocate("test", bytes, BufferUse::Storage, MemoryGroup::Activations).unwrap();
        let (logits, results) = (buffer(4 * n as u64), buffer(n_slots as u64 * RESULT_BYTES));
        let (params, token_ids) = (buffer(size_of::<SampleParams>() as u64), buffer(16));
        let state = buffer(size_of::<SampleState>() as u64);
        let scratch = SampleScratch::new(gpu, n).unwrap();
        let mut slots = Params::new(gpu, 1).unwrap();
        let mut recorder = Recorder::new(gpu, &mut slots);
        let op = Sample {
            logits: &logits,
            scratch: &scratch,
            params: (&params).into(),
            state: &state,
            results: (&results).into(),
            token_ids: &token_ids,
        };
        record(&mut recorder, &op).unwrap();
        let dispatches = recorder.finish();
        GpuSampler { gpu, dispatches, logits, params, state, results, token_ids }
    }

    /// Uploads a row, and the parameters and the state of `sampler`.
    pub fn begin(&self, logits: &[f32], sampler: &Sampler, stop_ids: &[u32]) {
        let SamplingParams { temperature, top_k, top_p, min_p, .. } = *sampler.params();
        assert!(sampler.params().gpu_sampler());
        let params = SampleParams::new(temperature, top_k, top_p, min_p, stop_ids).unwrap();
        let generator = sampler.generator();
        let state = SampleState::new(generator.key, generator.draws);
        self.upload(&self.logits, logits);
        self.upload(&self.params, &[params]);
        self.upload(&self.state, &[state]);
    }

    pub fn upload<T: bytemuck::Pod>(&self, buffer: &GpuBuffer, values: &[T]) {
        self.gpu.upload(buffer, 0, bytemuck::cast_slice(values)).unwrap();
    }

    /// Encodes `n` steps in one pass, like steps ahead.
    pub fn steps(&self, n: usize) {
        let mut encoder = self.gpu.encoder().unwrap();
        encoder.pass(|pass| (0..n).for_each(|_| pass.run(&self.dispatches, WORK)));
        encoder.submit(self.gpu).unwrap();
    }

    /// Returns the ring: the token and the fault flag of each slot.
    pub fn results(&self) -> Vec<(u32, u32)> {
        let bytes = self.gpu.read_buffer(&self.results).unwrap();
        bytemuck::pod_collect_to_vec::<u8, [u32; 4]>(&bytes).iter().map(|r| (r[0], r[1])).collect()
    }

    pub fn state(&self) -> SampleState {
        bytemuck::pod_read_unaligned(&self.gpu.read_buffer(&self.state).unwrap())
    }

    pub fn first_token_id(&self) -> u32 {
        bytemuck::pod_read_unaligned(&self.gpu.read_buffer(&self.token_ids).unwrap()[..4])
    }
}
