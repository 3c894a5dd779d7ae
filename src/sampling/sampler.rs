//! The sampler: parameters, random generator and scratch of one sequence.

use rand::TryRng;
use rand::rngs::SysRng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::candidates::{self, Candidate};
use super::check::{check_len, check_logits};
use super::params::SamplingParams;
use super::penalties;
use crate::error::{Error, Result};

/// Chooses tokens for one sequence.
///
/// Each drawn token takes one uniform number from ChaCha8 seeded with
/// [`Sampler::seed`], so the same logits, histories and seed give the same
/// tokens on every platform (up to the last bit of the platform's `exp`, which
/// decides only where a draw falls within about 1e-16 of a border). Greedy
/// choices take none.
///
/// After construction no call allocates.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    vocab_size: usize,
    seed: u64,
    rng: ChaCha8Rng,
    /// `[vocab_size]` logits after penalties and bias; empty where none is on.
    adjusted: Vec<f32>,
    /// `[vocab_size]` zeros between calls; empty where no penalty is on.
    counts: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for rows of `vocab_size` logits.
    ///
    /// # Errors
    /// [`Error::Input`] when a parameter is out of its range
    /// ([`SamplingParams::validate`]), and when the seed is left to the
    /// operating system and it has no randomness to give.
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
            adjusted: Vec::with_capacity(if params.changes_logits() { vocab_size } else { 0 }),
            counts: vec![0; if params.penalises() { vocab_size } else { 0 }],
            candidates: Vec::with_capacity(candidates::buffer_len(k, vocab_size)),
            params,
        })
    }

    /// The seed in use: the one asked for, or the random one, which is below
    /// 2^53 so that JSON readers which hold numbers as f64 keep it exact.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The parameters given at construction.
    #[must_use]
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// See [`SamplingParams::is_plain_greedy`].
    #[must_use]
    pub fn is_plain_greedy(&self) -> bool {
        self.params.is_plain_greedy()
    }

    /// Chooses the next token from `logits` (`[vocab_size]`).
    ///
    /// `history` holds the tokens that the penalties look at, oldest first; it
    /// is not read where they are off.
    ///
    /// # Errors
    /// [`Error::Input`] when the row is not `vocab_size` long, holds NaN or
    /// +inf or nothing above -inf, before or after penalties and bias; and when
    /// a penalty is on and `history` has an id outside the vocabulary. No
    /// random number is taken then.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        let greedy = self.params.temperature == 0.0;
        self.candidates(logits, history)?;
        let u = if greedy { 0.0 } else { uniform(&mut self.rng) };
        candidates::at_quantile(&self.candidates, u)
            .ok_or_else(|| Error::input("logits: no token survived the filters"))
    }

    /// The tokens that may be drawn from `logits` (`[vocab_size]`), most likely
    /// first (the lower id first among equals), with their probabilities: what
    /// [`Sampler::sample`] draws from. Takes no random number.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn candidates(&mut self, logits: &[f32], history: &[u32]) -> Result<&[Candidate]> {
        check_len(logits, self.vocab_size)?;
        let mut max = check_logits("logits", logits)?;
        let mut logits = logits;
        if self.params.changes_logits() {
            self.adjusted.clear();
            self.adjusted.extend_from_slice(logits);
            penalties::apply(&self.params, history, &mut self.counts, &mut self.adjusted)?;
            max = check_logits("logits after penalties and bias", &self.adjusted)?;
            logits = &self.adjusted;
        }
        candidates::survivors(&self.params, logits, max, &mut self.candidates);
        Ok(&self.candidates)
    }
}

/// A uniform number from \[0, 1): the 53 bits that an f64 holds.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
    (rng.next_u64() >> 11) as f64 * STEP
}

fn random_seed() -> Result<u64> {
    let bits = SysRng.try_next_u64().map_err(|e| {
        Error::input(format!("seed: the operating system has no random one to give ({e}): choose a seed"))
    })?;
    Ok(bits >> 11)
}
