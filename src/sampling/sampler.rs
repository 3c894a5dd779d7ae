//! The sampler: parameters, random generator and scratch space of one sequence.

use rand::TryRng;
use rand::rngs::SysRng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::candidates::{self, Candidate};
use super::check::{check_len, check_logits};
use super::params::SamplingParams;
use super::penalties;
use crate::error::{Error, Result};

/// A sampler that chooses tokens for one sequence.
///
/// Each drawn token takes one uniform number from ChaCha8, seeded with [`Sampler::seed`].
/// The same logits, histories and seed therefore give the same tokens on every platform.
/// The exception is the last bit of the platform's `exp`, which matters only for a draw
/// within about 1e-16 of a boundary. Greedy choices take no random number.
///
/// No call allocates after construction.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    vocab_size: usize,
    seed: u64,
    rng: ChaCha8Rng,
    scratch: Scratch,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Scratch {
    /// `[vocab_size]` logits after penalties and bias; empty if both are off.
    adjusted: Vec<f32>,
    /// `[vocab_size]` zeros between calls; empty if no penalty is on.
    counts: Vec<u32>,
}

/// The state of a sampler's generator: ChaCha8 with a 64-bit block counter and stream 0.
/// Draw `i`, counted from 0, takes the words `2 i` (low) and `2 i + 1` (high) of its
/// stream. The upper 53 of these 64 bits are the uniform number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generator {
    /// The words of the key.
    pub key: [u32; 8],
    /// Draws taken so far.
    pub draws: u64,
}

impl Sampler {
    /// Creates a sampler for rows of `vocab_size` logits.
    ///
    /// # Errors
    /// [`Error::Input`] if a parameter is out of range ([`SamplingParams::validate`]),
    /// or when no seed is given and the operating system cannot provide a random one.
    pub fn new(params: SamplingParams, vocab_size: usize) -> Result<Self> {
        params.validate(vocab_size)?;
        let seed = match params.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let k = if params.temperature == 0.0 { 1 } else { candidates::k_limit(&params, vocab_size) };
        Ok(Sampler {
            vocab_size,
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            scratch: Scratch {
                adjusted: Vec::with_capacity(if params.changes_logits() { vocab_size } else { 0 }),
                counts: vec![0; if params.penalises() { vocab_size } else { 0 }],
            },
            candidates: Vec::with_capacity(candidates::buffer_len(k, vocab_size)),
            params,
        })
    }

    /// Returns the seed in use, given or random. A random seed is below 2^53, so that
    /// JSON readers that store numbers as f64 keep it exact.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the parameters given at construction.
    #[must_use]
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// See [`SamplingParams::is_plain_greedy`].
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.params.is_plain_greedy()
    }

    /// Selects the next token from `logits` (`[vocab_size]`). It is the survivor whose
    /// share of the cumulative distribution, in ascending order of id, contains the
    /// uniform number.
    ///
    /// `history` holds the tokens that the penalties consider, oldest first. It is not
    /// read if the penalties are off.
    ///
    /// # Errors
    /// [`Error::Input`] if the row is not `vocab_size` long, or if it holds NaN, +inf
    /// or nothing above -inf, before or after penalties and bias; also if a penalty is
    /// on and `history` has an id outside the vocabulary. An error takes no random
    /// number.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        let (logits, max) = self.scratch.adjust(&self.params, self.vocab_size, logits, history)?;
        if self.params.temperature == 0.0 {
            return Ok(candidates::argmax(logits));
        }
        let u = uniform(&mut self.rng);
        if !candidates::filters(&self.params, self.vocab_size) {
            return Ok(candidates::draw_unfiltered(self.params.temperature, logits, max, u));
        }
        candidates::survivors(&self.params, logits, max, &mut self.candidates);
        self.candidates.sort_unstable_by_key(|candidate| candidate.token);
        candidates::at_quantile(&self.candidates, u)
            .ok_or_else(|| Error::input("logits: no token survived the filters"))
    }

    /// Returns the tokens that may be drawn from `logits` (`[vocab_size]`), with the
    /// probabilities that [`Sampler::sample`] uses. The most likely token is first; if
    /// there is a tie, the lower id. Takes no random number.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn candidates(&mut self, logits: &[f32], history: &[u32]) -> Result<&[Candidate]> {
        let (logits, max) = self.scratch.adjust(&self.params, self.vocab_size, logits, history)?;
        candidates::survivors(&self.params, logits, max, &mut self.candidates);
        Ok(&self.candidates)
    }

    /// Returns the state of the generator, so that another sampler can continue its
    /// draws.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn generator(&self) -> Generator {
        let seed = self.rng.get_seed();
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(seed.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        }
        Generator { key, draws: (self.rng.get_word_pos() / WORDS_PER_DRAW) as u64 }
    }

    /// Sets the generator to its state after `draws` draws from its seed, in the count of
    /// [`Generator::draws`]. Call this after another sampler has continued the draws.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn set_draws(&mut self, draws: u64) {
        self.rng.set_word_pos(u128::from(draws) * WORDS_PER_DRAW);
    }
}

impl Scratch {
    /// Returns `logits` after penalties and bias, and their maximum.
    fn adjust<'a>(
        &'a mut self,
        params: &SamplingParams,
        vocab_size: usize,
        logits: &'a [f32],
        history: &[u32],
    ) -> Result<(&'a [f32], f32)> {
        check_len(logits, vocab_size)?;
        let max = check_logits("logits", logits)?;
        if !params.changes_logits() {
            return Ok((logits, max));
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        penalties::apply(params, history, &mut self.counts, &mut self.adjusted)?;
        let max = check_logits("logits after penalties and bias", &self.adjusted)?;
        Ok((&self.adjusted, max))
    }
}

/// 32-bit words per draw: a draw takes 64 bits.
const WORDS_PER_DRAW: u128 = 2;

/// Returns a uniform number from \[0, 1) with the 53 bits that an f64 can hold.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
    (rng.next_u64() >> 11) as f64 * STEP
}

fn random_seed() -> Result<u64> {
    let bits = SysRng.try_next_u64().map_err(|e| {
        Error::input(format!("seed: the operating system gave no random number ({e}): choose a seed"))
    })?;
    Ok(bits >> 11)
}
