//! Steps encoded ahead: the GPU sampler passes each step's token to the next step, and
//! the host reads the tokens of finished steps while later ones run.

use std::collections::VecDeque;

use super::Model;
use super::dims::{BATCH_OFFSET, Slot};
use super::forward::{Forward, f16_overflow, page_tables, work};
use super::frame_budget::Pieces;
use super::kv_cache::PageLists;
use super::options::STEPS_AHEAD_MAX;
use super::recordings::HeadRows;
use crate::error::Result;
use crate::gpu::{BoundBuffer, BufferUse, Dispatch, GpuBuffer, MemoryGroup, Readback, Submission};
use crate::kernels::sample::{self, NO_TOKEN, Sample, SampleParams, SampleState};
use crate::kernels::{Batch, KvOverflow, OVERFLOW_FLAG_BYTES, Row, Step, contract};

/// Maximum submits of one loop in flight. While the host reads the tokens of one, the
/// other keeps the GPU busy.
const FLIGHTS_MAX: usize = 2;
/// Slots in the ring of results.
const N_SLOTS: usize = FLIGHTS_MAX * STEPS_AHEAD_MAX;
const RESULTS_BYTES: u64 = N_SLOTS as u64 * sample::RESULT_BYTES;

/// The data that changes from step to step, in the layout of [`Slot::Step`].
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct StepBlock {
    body: Step,
    unused0: [u32; 60],
    head: Step,
    unused1: [u32; 60],
    row: Row,
}

const BLOCK_BYTES: u64 = size_of::<StepBlock>() as u64;
const _: () = assert!(BLOCK_BYTES == BATCH_OFFSET + size_of::<Row>() as u64 && size_of::<Batch>() > 16);

/// Returns the bytes that a submit of `steps` stages in addition to tokens and page
/// tables.
pub(super) fn staged_bytes(steps: usize) -> usize {
    if steps == 0 {
        return 0;
    }
    // A submit that does not follow the loop's last one also stages parameters and state.
    steps * size_of::<StepBlock>() + size_of::<SampleParams>() + size_of::<SampleState>()
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AheadToken {
    /// The chosen token.
    Token(u32),
    /// The logits held NaN or infinity, or all were minus infinity.
    Fault,
    /// A key or value of the step overflows f16.
    F16Overflow(KvOverflow),
    /// The loop stopped at an earlier step.
    Stopped,
}

/// The GPU sampler of one generation, and its submits in flight.
pub struct AheadLoop {
    params: GpuBuffer,
    state: GpuBuffer,
    results: GpuBuffer,
    readbacks: [Readback; FLIGHTS_MAX],
    dispatches: Vec<Dispatch>,
    sampling: SampleParams,
    key: [u32; 8],
    /// Number of random numbers that the tokens read so far have consumed.
    draws: u64,
    flights: VecDeque<Flight>,
    next_readback: usize,
    /// [`Forward::serial`] after the loop's last submit. A later submit of anything else
    /// overwrites the data that steps pass on.
    serial: u64,
    /// Number of steps that the state on the GPU has counted.
    step: usize,
    last_token: u32,
}

struct Flight {
    submission: Submission,
    readback: usize,
    first_step: usize,
    n_steps: usize,
}

impl AheadLoop {
    /// Returns the number of submits in flight.
    #[must_use]
    pub fn n_flights(&self) -> usize {
        self.flights.len()
    }

    /// Returns whether another submit may follow before one is read.
    #[must_use]
    pub fn can_submit(&self) -> bool {
        self.flights.len() < FLIGHTS_MAX
    }

    /// Returns the number of random numbers that the tokens read so far have consumed,
    /// not counting the last `n_tokens`.
    #[must_use]
    pub fn draws_before(&self, n_tokens: usize) -> u64 {
        let taken = if self.sampling.greedy == 0 { n_tokens as u64 } else { 0 };
        self.draws.saturating_sub(taken)
    }

    /// Waits for the oldest submit and appends the outcomes of its steps to `tokens`.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    pub fn read(&mut self, model: &Model, tokens: &mut VecDeque<AheadToken>) -> Result<()> {
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        let Flight { submission, readback, first_step, n_steps } = flight;
        let takes_number = self.sampling.greedy == 0;
        let (draws, last) = (&mut self.draws, &mut self.last_token);
        self.readbacks[readback].read(&model.gpu, submission, RESULTS_BYTES, |bytes| {
            let slots: &[[u32; 4]] = bytemuck::cast_slice(bytes);
            for step in first_step..first_step + n_steps {
                tokens.push_back(match slots[step % N_SLOTS] {
                    [NO_TOKEN, 0, ..] => AheadToken::Stopped,
                    // The flag is not cleared between steps, so later steps also see this
                    // overflow.
                    [.., keys, values] if keys | values != 0 => {
                        KvOverflow::lowest([keys, values]).map_or(AheadToken::Fault, AheadToken::F16Overflow)
                    }
                    [NO_TOKEN, ..] => AheadToken::Fault,
                    [token, ..] => {
                        *draws += u64::from(takes_number);
                        *last = token;
                        AheadToken::Token(token)
                    }
                });
            }
        })
    }
}

impl Forward {
    /// Creates a loop for one generation. `key` is the key of its random generator, and
    /// `draws` is the count of numbers already consumed.
    ///
    /// # Errors
    /// As [`crate::gpu::Gpu::allocate`] and [`Recorder::dispatch`].
    ///
    /// # Panics
    /// If the model was loaded without steps ahead.
    pub fn ahead_loop(
        &mut self,
        model: &Model,
        sampling: SampleParams,
        key: [u32; 8],
        draws: u64,
    ) -> Result<AheadLoop> {
        let gpu = &model.gpu;
        let small = |label, bytes, usage| gpu.allocate(label, bytes, usage, MemoryGroup::Logits);
        let params = small("sample params", size_of::<SampleParams>() as u64, BufferUse::Uniform)?;
        let state = small("sample state", size_of::<SampleState>() as u64, BufferUse::Storage)?;
        let results = small("sample results", RESULTS_BYTES, BufferUse::Storage)?;
        let readbacks = [Readback::new(gpu, RESULTS_BYTES)?, Readback::new(gpu, RESULTS_BYTES)?];
        let Forward { buffers, params: slots, sample_scratch, .. } = self;
        let mut recorder = contract::recorder(gpu, slots);
        let op = Sample {
            logits: &buffers[Slot::Logits as usize],
            scratch: sample_scratch.as_ref().expect("the model was loaded with steps ahead"),
            params: (&params).into(),
            state: &state,
            results: BoundBuffer::range(&results, 0, RESULTS_BYTES),
            token_ids: &buffers[Slot::TokenIds as usize],
        };
        if sampling.greedy == 1 {
            sample::record_greedy(&mut recorder, &op)?;
        } else {
            sample::record(&mut recorder, &op)?;
        }
        let dispatches = recorder.finish();
        Ok(AheadLoop {
            params,
            state,
            results,
            readbacks,
            dispatches,
            sampling,
            key,
            draws,
            flights: VecDeque::with_capacity(FLIGHTS_MAX),
            next_readback: 0,
            serial: 0,
            step: 0,
            last_token: 0,
        })
    }

    /// Returns whether the latest submit was this loop's. Its next submit then finds the
    /// token and the sampler's state on the GPU.
    #[must_use]
    pub fn follows(&self, ahead: &AheadLoop) -> bool {
        ahead.serial == self.serial && ahead.serial != 0
    }

    /// Submits `n_steps` steps of one sequence. The first step runs `tokens` at
    /// `position`; without tokens it runs the token that the loop's last step chose. Each
    /// further step runs the token chosen by the step before it.
    ///
    /// # Errors
    /// As [`Forward::run`].
    ///
    /// # Panics
    /// As [`Forward::run`]; if the loop already has two submits in flight; if `n_steps`
    /// is 0 or above [`STEPS_AHEAD_MAX`]; without tokens, if the latest submit was not
    /// this loop's and some of its own are unread.
    pub fn submit_ahead(
        &mut self,
        model: &Model,
        ahead: &mut AheadLoop,
        pages: &mut PageLists,
        tokens: Option<&[u32]>,
        position: usize,
        n_steps: usize,
    ) -> Result<()> {
        let n_first = tokens.map_or(1, <[u32]>::len);
        assert!(
            ahead.can_submit() && (1..=STEPS_AHEAD_MAX).contains(&n_steps),
            "too many submits in flight, or n_steps is out of range"
        );
        self.reserve(model, pages, position, n_first + n_steps - 1)?;
        let chained = tokens.is_none() && self.follows(ahead);
        assert!(tokens.is_some() || chained || ahead.flights.is_empty(), "unread tokens");
        let last = [ahead.last_token];
        let tokens = if chained { &[] } else { tokens.unwrap_or(&last) };
        let blocks: Vec<StepBlock> = (0..n_steps)
            .map(|i| {
                let (position, n) =
                    if i == 0 { (position, n_first) } else { (position + n_first + i - 1, 1) };
                block(position as u32, n as u32)
            })
            .collect();
        let mut encoder = model.gpu.encoder()?;
        let state = SampleState::new(ahead.key, ahead.draws);
        let buffer = |slot: Slot| &self.buffers[slot as usize];
        let mut pieces = page_tables(&self.page_entries, &self.buffers).to_vec();
        if !chained {
            ahead.step = 0;
            pieces.push((bytemuck::cast_slice(tokens), buffer(Slot::TokenIds), 0));
            pieces.push((bytemuck::bytes_of(&ahead.sampling), &ahead.params, 0));
            pieces.push((bytemuck::bytes_of(&state), &ahead.state, 0));
        }
        if self.detects_f16_overflow {
            pieces.push(f16_overflow::cleared(&self.buffers));
        }
        let staged =
            self.ring.stage_with(&model.gpu, &mut encoder, &pieces, bytemuck::cast_slice(&blocks))?;
        let recorded = &self.recordings;
        let deterministic = model.options.deterministic;
        let mut pieces = Pieces::new(&model.gpu, encoder, model.options.max_submit);
        for (i, block) in blocks.iter().enumerate() {
            let offset = staged + i as u64 * BLOCK_BYTES;
            self.ring.copy_staged(pieces.encoder(), offset, buffer(Slot::Step), 0, BLOCK_BYTES);
            let [body, head] = recorded.chunk(block.body.n_rows as usize, HeadRows::Last, deterministic);
            let sample = (&ahead.dispatches[..], work(block.head));
            pieces.run(&mut self.cost, &[(body, work(block.body)), (head, work(block.head)), sample])?;
            if self.detects_f16_overflow {
                let slot = ((ahead.step + i) % N_SLOTS) as u64 * sample::RESULT_BYTES;
                let (flag, offset) = (buffer(Slot::F16Overflow), sample::RESULT_BYTES - OVERFLOW_FLAG_BYTES);
                pieces.encoder().copy(flag, 0, &ahead.results, slot + offset, OVERFLOW_FLAG_BYTES);
            }
        }
        let mut encoder = pieces.finish();
        let readback = ahead.next_readback;
        ahead.next_readback = (readback + 1) % FLIGHTS_MAX;
        ahead.readbacks[readback].copy_from(&mut encoder, &ahead.results, RESULTS_BYTES);
        let ring = &mut self.ring;
        let submitted = || ring.submitted(&model.gpu);
        let submission = ahead.readbacks[readback].submit(&model.gpu, encoder, RESULTS_BYTES, submitted)?;
        ahead.flights.push_back(Flight { submission, readback, first_step: ahead.step, n_steps });
        ahead.step += n_steps;
        self.serial += 1;
        ahead.serial = self.serial;
        Ok(())
    }
}

/// Returns the step of `n` rows at `position`. Its last row is sampled.
fn block(position: u32, n: u32) -> StepBlock {
    let body = Step { n_rows: n, first_row: 0, position, kv_len: position + n };
    let head = Step { n_rows: 1, first_row: n - 1, ..body };
    let row = Row { position, kv_len: position + 1, first_page: 0, unused: 0 };
    StepBlock { body, unused0: [0; 60], head, unused1: [0; 60], row }
}
