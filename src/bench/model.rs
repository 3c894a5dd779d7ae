//! Prefill and decode rates of a model, measured like llama-bench (`tools/llama-bench` of
//! llama.cpp): random tokens, one warm-up run, readback of the last token's logits, and
//! no sampling in the timed part.

use std::time::{Duration, Instant};

use super::host::peak_host_bytes;
use super::statistics::{mean, standard_deviation};
use crate::engine::{CancelFlag, Engine, Session};
use crate::error::{Error, Result};
use crate::gpu::StepTimings;
use crate::sampling::{Sampler, SamplingParams};

/// One test: prefills `n_prompt` tokens at once, then decodes `n_gen` tokens one by one.
/// Before it, `n_depth` untimed tokens are in the cache. Each of several sequences
/// decodes `n_gen` tokens, and all run in the same steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelTest {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens decoded one by one.
    pub n_gen: usize,
    /// Tokens of each sequence in the cache before the test.
    pub n_depth: usize,
    /// Sequences decoded together, each in its own session.
    pub n_sequences: usize,
}

impl Default for ModelTest {
    /// Returns a test of one sequence with no tokens.
    fn default() -> Self {
        ModelTest { n_prompt: 0, n_gen: 0, n_depth: 0, n_sequences: 1 }
    }
}

impl ModelTest {
    /// Returns the name that llama-bench would print: `pp512`, `tg128`, `pp512+tg128`,
    /// `tg128 @ d512`. With several sequences: `tg128 b4`, `tg128 b4 @ d512`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut parts = Vec::new();
        if self.n_prompt > 0 {
            parts.push(format!("pp{}", self.n_prompt));
        }
        if self.n_gen > 0 {
            parts.push(format!("tg{}", self.n_gen));
        }
        let mut name = parts.join("+");
        if self.n_sequences != 1 {
            name.push_str(&format!(" b{}", self.n_sequences));
        }
        if self.n_depth > 0 {
            name.push_str(&format!(" @ d{}", self.n_depth));
        }
        name
    }

    /// Returns the number of timed tokens in all sequences.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.n_prompt.saturating_add(self.n_gen).saturating_mul(self.n_sequences)
    }

    /// Checks that the test fits a context of `n_ctx` positions.
    ///
    /// # Errors
    /// [`Error::Input`] for a test with no tokens, for more tokens than the context
    /// holds, and for a prompt with several sequences, because prefill takes one sequence
    /// at a time.
    pub fn check(&self, n_ctx: usize) -> Result<()> {
        if self.n_tokens() == 0 {
            return Err(Error::input("a test needs at least one token"));
        }
        if self.n_sequences > 1 && self.n_prompt > 0 {
            return Err(Error::input(format!("test {}: several sequences can only be decoded", self.name())));
        }
        let positions = self.n_prompt.saturating_add(self.n_gen).saturating_add(self.n_depth);
        if positions > n_ctx {
            return Err(Error::input(format!(
                "test {} takes {positions} positions, but the context holds {n_ctx}: test less, or use a \
                 longer context",
                self.name(),
            )));
        }
        Ok(())
    }
}

/// The measurements of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelBench {
    /// The test that was run.
    pub test: ModelTest,
    /// Nanoseconds of each repetition, without sampling.
    pub samples_ns: Vec<u64>,
    /// Nanoseconds of each repetition from the start of the prompt to the first token,
    /// which is sampled greedily; empty without a prompt.
    pub first_token_ns: Vec<u64>,
    /// Time to the first token in the warm-up run, in nanoseconds.
    pub warm_up_first_token_ns: Option<u64>,
    /// The host's work in all repetitions together.
    pub host: StepTimings,
    /// Peak GPU memory allocated since the device was opened, in bytes.
    pub peak_gpu_bytes: u64,
    /// Peak memory of the process so far in bytes, if the system reports it.
    pub peak_host_bytes: Option<u64>,
}

impl ModelBench {
    /// Returns the tokens per second of each repetition.
    #[must_use]
    pub fn samples_ts(&self) -> Vec<f64> {
        let tokens = self.test.n_tokens() as f64;
        self.samples_ns.iter().map(|&ns| tokens * 1e9 / ns.max(1) as f64).collect()
    }

    /// Returns mean and standard deviation of the tokens per second.
    #[must_use]
    pub fn rate(&self) -> (f64, f64) {
        let samples = self.samples_ts();
        (mean(&samples), standard_deviation(&samples))
    }

    /// Returns the mean nanoseconds to the first token with the model already loaded, or
    /// `None` without a prompt.
    #[must_use]
    pub fn first_token(&self) -> Option<f64> {
        let samples: Vec<f64> = self.first_token_ns.iter().map(|&ns| ns as f64).collect();
        (!samples.is_empty()).then(|| mean(&samples))
    }

    /// Returns `part` divided by the number of all timed tokens. `part` is an amount of
    /// the host's work in all repetitions.
    #[must_use]
    pub fn per_token(&self, part: f64) -> f64 {
        part / (self.test.n_tokens() * self.samples_ns.len()).max(1) as f64
    }

    /// Returns mean and standard deviation of the repetitions' nanoseconds.
    #[must_use]
    pub fn nanoseconds(&self) -> (f64, f64) {
        let samples: Vec<f64> = self.samples_ns.iter().map(|&ns| ns as f64).collect();
        (mean(&samples), standard_deviation(&samples))
    }
}

/// Progress of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelBenchProgress {
    /// Repetitions completed.
    pub done: usize,
    /// Total number of repetitions.
    pub total: usize,
}

/// Runs one test: a warm-up, then `repetitions` timed runs. `session` belongs to `engine`
/// and can be reused for several tests. If it already holds a prefix of the test's depth
/// tokens, as in tests of increasing depth, that prefix does not run again.
///
/// # Errors
/// [`Error::Input`] for a test with no tokens, for more tokens than the context holds,
/// and for no repetitions; [`Error::Cancelled`] by `cancel`; errors of the device.
pub fn run_model_test(
    engine: &Engine,
    session: &mut Session,
    test: ModelTest,
    repetitions: usize,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(ModelBenchProgress),
) -> Result<ModelBench> {
    test.check(engine.n_ctx())?;
    if repetitions == 0 {
        return Err(Error::input("a benchmark needs at least one repetition"));
    }
    if test.n_sequences > 1 {
        // The tokens of `session` would count in the memory peaks.
        session.truncate(0);
        return super::batch::run(engine, test, repetitions, cancel, progress);
    }
    session.set_cancel(cancel.clone());
    let tokens: Vec<u32> = tokens(engine.vocab_size()).take(test.n_depth + test.n_tokens()).collect();
    let (depth, timed) = tokens.split_at(test.n_depth);
    let (prompt, generated) = timed.split_at(test.n_prompt);
    let cached = session.tokens().iter().zip(depth).take_while(|(token, wanted)| token == wanted).count();
    session.truncate(cached);
    if cached < depth.len() {
        session.prefill(&depth[cached..])?;
    }
    let mut sampler = Sampler::new(SamplingParams::greedy(), engine.vocab_size())?;
    // One token is enough to warm up decode.
    let warm_up = run_once(session, &mut sampler, prompt, &generated[..test.n_gen.min(1)])?;
    let mut runs = Vec::with_capacity(repetitions);
    let before = engine.gpu().step_timings();
    for done in 0..repetitions {
        progress(ModelBenchProgress { done, total: repetitions });
        session.truncate(test.n_depth);
        runs.push(run_once(session, &mut sampler, prompt, generated)?);
    }
    progress(ModelBenchProgress { done: repetitions, total: repetitions });
    Ok(ModelBench {
        test,
        samples_ns: runs.iter().map(|run| nanoseconds(run.total)).collect(),
        first_token_ns: runs.iter().filter_map(|run| run.first_token).map(nanoseconds).collect(),
        warm_up_first_token_ns: warm_up.first_token.map(nanoseconds),
        host: engine.gpu().step_timings().since(before),
        peak_gpu_bytes: engine.gpu().ledger().peak_bytes(),
        peak_host_bytes: peak_host_bytes(),
    })
}

/// Times of one run.
struct Run {
    /// Time of the run without sampling.
    total: Duration,
    /// Time from the start of the prompt to the token sampled after it.
    first_token: Option<Duration>,
}

/// Runs `prompt`, then each token of `generated`. The logits are read back after the
/// prompt and after each further token. The readback also waits for the device.
fn run_once(session: &mut Session, sampler: &mut Sampler, prompt: &[u32], generated: &[u32]) -> Result<Run> {
    let start = Instant::now();
    let mut first_token = None;
    let mut sampling = Duration::ZERO;
    if !prompt.is_empty() {
        let logits = session.advance(prompt)?;
        let behind_prompt = start.elapsed();
        sampler.sample(logits, &[])?;
        let sampled = start.elapsed();
        first_token = Some(sampled);
        sampling = sampled - behind_prompt;
    }
    for token in generated {
        session.advance(std::slice::from_ref(token))?;
    }
    Ok(Run { total: start.elapsed() - sampling, first_token })
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns scattered token ids from Knuth's multiplicative hash. They are the same in
/// every run.
pub(super) fn tokens(vocab_size: usize) -> impl Iterator<Item = u32> {
    (1u32..).map(move |i| {
        let hash = u64::from(i.wrapping_mul(2_654_435_769));
        // Scaling the hash's range to the vocabulary keeps every id below `vocab_size`.
        ((hash * vocab_size as u64) >> 32) as u32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_the_names_of_llama_bench() {
        let name =
            |n_prompt, n_gen, n_depth| ModelTest { n_prompt, n_gen, n_depth, ..ModelTest::default() }.name();
        let batch = |n_gen, n_depth| ModelTest { n_prompt: 0, n_gen, n_depth, n_sequences: 4 };
        assert_eq!(batch(128, 0).name(), "tg128 b4");
        assert_eq!(batch(8, 512).name(), "tg8 b4 @ d512");
        assert_eq!((batch(8, 92).n_tokens(), batch(8, 92).check(100).is_ok()), (32, true));
        assert!(batch(8, 93).check(100).is_err() && batch(0, 5).check(100).is_err());
        assert!(ModelTest { n_prompt: 3, ..batch(8, 0) }.check(100).is_err());
        assert_eq!(name(512, 0, 0), "pp512");
        assert_eq!(name(0, 128, 0), "tg128");
        assert_eq!(name(512, 0, 512), "pp512 @ d512");
        assert_eq!(name(512, 128, 7), "pp512+tg128 @ d7");
    }

    #[test]
    fn rates_are_computed_from_each_sample() {
        let test = ModelTest { n_prompt: 100, n_depth: 9, ..ModelTest::default() };
        let bench = ModelBench {
            test,
            samples_ns: vec![1_000_000_000, 500_000_000],
            first_token_ns: vec![10, 30],
            warm_up_first_token_ns: Some(70),
            host: StepTimings::default(),
            peak_gpu_bytes: 1,
            peak_host_bytes: None,
        };
        assert_eq!(bench.first_token(), Some(20.0));
        assert_eq!(bench.per_token(400.0), 2.0);
        assert_eq!(ModelBench { first_token_ns: Vec::new(), ..bench.clone() }.first_token(), None);
        assert_eq!(bench.samples_ts(), [100.0, 200.0]);
        assert_eq!(bench.rate().0, 150.0);
        assert!((bench.rate().1 - 5000.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(bench.nanoseconds().0, 750_000_000.0);
    }

    #[test]
    fn tokens_are_scattered_over_the_vocabulary() {
        for vocab_size in [1, 2, 3, 1000, 50257, 1 << 24] {
            let ids: Vec<u32> = tokens(vocab_size).take(4000).collect();
            assert!(ids.iter().all(|&id| (id as usize) < vocab_size));
            let distinct: std::collections::HashSet<_> = ids.iter().collect();
            assert!(distinct.len() * 2 >= vocab_size.min(4000), "{vocab_size}: {}", distinct.len());
        }
    }
}
