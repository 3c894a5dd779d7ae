//! Cases of the sampler.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::data::{Random, floats, record};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{BoundBuffer, BufferUse, Gpu, MemoryGroup, Work};
use crate::kernels::sample::{self, NO_TOKEN, SampleParams, SampleScratch, SampleState};
use crate::reference;

/// Values of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleInput {
    /// Uniform in [-10, 10].
    Random,
    /// Integers from -3 to 3, which tie at every threshold.
    Ties,
    /// Every second logit is minus infinity.
    Masked,
    /// One NaN in the last place.
    Nan,
}

/// One draw from a row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleCase {
    /// Number of logits.
    pub n: usize,
    /// Values of the logits.
    pub input: SampleInput,
    /// Temperature; 0 means greedy.
    pub temperature: f32,
    /// Number of tokens that top-k keeps; 0 disables it.
    pub top_k: usize,
    /// Probability that top-p keeps; 1 disables it.
    pub top_p: f32,
    /// Threshold of min-p; 0 disables it.
    pub min_p: f32,
}

/// Number of slots in the ring of results.
const N_SLOTS: usize = 3;
/// Step whose slot is written: 7 modulo 3 is slot 1.
const STEP: u32 = 7;

impl SampleCase {
    /// Creates a case of random logits with the usual filters: temperature 0.8, top-k 40,
    /// top-p 0.95.
    #[must_use]
    pub fn usual(n: usize) -> Self {
        SampleCase { n, input: SampleInput::Random, temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.0 }
    }

    fn logits(&self) -> Vec<f32> {
        let mut logits = Random::new(5).uniform(self.n, 10.0);
        match self.input {
            SampleInput::Random => {}
            SampleInput::Ties => logits.iter_mut().for_each(|x| *x = (*x * 0.35).trunc()),
            SampleInput::Masked => logits.iter_mut().skip(1).step_by(2).for_each(|x| *x = f32::NEG_INFINITY),
            SampleInput::Nan => logits[self.n - 1] = f32::NAN,
        }
        logits
    }

    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let SampleCase { n, temperature, top_k, top_p, min_p, .. } = *self;
        let logits = self.logits();
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut key = [0; 8];
        bytemuck::cast_slice_mut(&mut key).copy_from_slice(&rng.get_seed());
        let u = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let found = reference::sample(&logits, temperature, top_k, top_p, min_p, u);

        let exactly = |value: u32| Expected::exactly(f64::from(value));
        let token = found.map_or(NO_TOKEN, |token| token as u32);
        let fault = u32::from(found.is_none());
        let mut slots = [[Expected::Untouched; 4]; N_SLOTS];
        slots[STEP as usize % N_SLOTS] = [token, fault, 0, 0].map(exactly);
        let state = SampleState { step: STEP, ..SampleState::new(key, 0) };
        let drawn = u32::from(found.is_some() && temperature > 0.0);
        let mut moved_on: Vec<Expected> = state.key.iter().map(|&word| exactly(word)).collect();
        moved_on.extend([drawn, 0, fault, STEP + 1].map(exactly));
        let next = found.map_or(Expected::Untouched, |_| exactly(token));

        let logits = floats(gpu, "logits", &logits)?;
        let params = SampleParams::new(temperature, top_k, top_p, min_p, &[])?;
        let params_bytes = size_of::<SampleParams>() as u64;
        let uniform = gpu.allocate("params", params_bytes, BufferUse::Uniform, MemoryGroup::Activations)?;
        gpu.upload(&uniform, 0, bytemuck::bytes_of(&params))?;
        let scratch = SampleScratch::new(gpu, n)?;
        let (results_out, results) = Output::new(gpu, "results", Format::U32, &[], slots.concat())?;
        let (state_out, state) =
            Output::new(gpu, "state", Format::U32, bytemuck::bytes_of(&state), moved_on)?;
        let (next_out, token_ids) = Output::new(gpu, "token_ids", Format::U32, &[], vec![next])?;
        let dispatches = record(gpu, |recorder| {
            let op = sample::Sample {
                logits: &logits,
                scratch: &scratch,
                params: (&uniform).into(),
                state: &state,
                results: BoundBuffer::range(&results, 0, N_SLOTS as u64 * sample::RESULT_BYTES),
                token_ids: &token_ids,
            };
            sample::record(recorder, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "none: an index; no draw here is close to a boundary",
            dispatches,
            work: Work { n_rows: 1, kv_len: 0 },
            outputs: vec![(results_out, results), (state_out, state), (next_out, token_ids)],
        })
    }
}

impl fmt::Display for SampleCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SampleCase { n, input, temperature, top_k, top_p, min_p } = self;
        write!(f, "n={n} {input:?} temperature={temperature} top_k={top_k} top_p={top_p} min_p={min_p}")
    }
}
