//! Cases of the log-probabilities of tokens.

use std::fmt;

use super::data::{Random, U, floats, input, record, step};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Choices, Op, Step, score};
use crate::reference;
use crate::tensor::{DType, pad_row};

/// Values of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreInput {
    /// Uniform in [-10, 10].
    Random,
    /// All equal.
    Equal,
    /// One logit about ten above the others, where the error of exp has the largest
    /// effect.
    Peak,
    /// One logit a hundred above the others, which is practically certain.
    Certain,
    /// Alternating between 1e30 and -1e30; in the first row, between the largest and the
    /// smallest f32.
    Large,
    /// Every second logit is minus infinity.
    Masked,
    /// All minus infinity except the last.
    OneFinite,
    /// All minus infinity.
    NoneFinite,
    /// One NaN.
    Nan,
    /// One NaN with its sign bit set.
    NegativeNan,
    /// One plus infinity.
    Infinity,
}

/// Scores of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreCase {
    /// Number of rows.
    pub n_rows: usize,
    /// Number of logits per row.
    pub n: usize,
    /// Values of the logits.
    pub input: ScoreInput,
}

/// First row of targets and of results.
const FIRST_ROW: usize = 2;
/// Maximum additions that a term passes through, for up to 2^17 logits: within a block,
/// over blocks, within a vec4, within a block of partial results, and over these blocks.
const ADDITIONS: f64 = 16.0 + 16.0 + 4.0 + 8.0 + 16.0;
/// Maximum size of an ulp relative to a value.
const ULP: f64 = 2.0 * U;

impl ScoreCase {
    /// Returns the logits of a row. The place of its special logit differs from row to
    /// row.
    fn logits(&self, row: usize) -> Vec<f32> {
        let n = self.n;
        let mut logits = Random::new(11 + row as u64).uniform(n, 10.0);
        let at = (row * 37 + n / 3) % n;
        match self.input {
            ScoreInput::Random => {}
            ScoreInput::Equal => logits.fill(3.25 - row as f32),
            ScoreInput::Peak => {
                logits.iter_mut().for_each(|x| *x *= 0.05);
                logits[at] = 10.0;
            }
            ScoreInput::Certain => logits[at] = 110.0,
            ScoreInput::Large => {
                let large = if row == 0 { f32::MAX } else { 1e30 };
                logits.iter_mut().enumerate().for_each(|(i, x)| *x = large * [1.0, -1.0][(i + row) % 2]);
            }
            ScoreInput::Masked => logits.iter_mut().skip(1).step_by(2).for_each(|x| *x = f32::NEG_INFINITY),
            ScoreInput::OneFinite => logits[..n - 1].fill(f32::NEG_INFINITY),
            ScoreInput::NoneFinite => logits.fill(f32::NEG_INFINITY),
            ScoreInput::Nan => logits[at] = f32::NAN,
            ScoreInput::NegativeNan => logits[at] = f32::from_bits(0xffc0_0001),
            ScoreInput::Infinity => logits[at] = f32::INFINITY,
        }
        logits
    }

    /// Returns the target of a row: the two ends for the first rows, then arbitrary ones.
    fn target(&self, row: usize) -> usize {
        match row {
            0 => 0,
            1 => self.n - 1,
            _ => (row * 7919) % self.n,
        }
    }

    pub(super) fn prepare(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let stride = pad_row(self.n);
        let (mut all, mut targets) = (Vec::new(), vec![u32::MAX; FIRST_ROW]);
        let mut logprobs = vec![Expected::Untouched; FIRST_ROW];
        let mut details = vec![Expected::Untouched; FIRST_ROW * 4];
        for row in 0..self.n_rows {
            let (logits, target) = (self.logits(row), self.target(row));
            let [logprob, rest @ ..] = expected(&logits, target);
            logprobs.push(logprob);
            details.push(logprob);
            details.extend(rest);
            targets.push(target as u32);
            all.extend(logits);
            // Padding does not count as logits.
            all.resize((row + 1) * stride, f32::NAN);
        }
        let logits = floats(gpu, "logits", &all)?;
        let targets = input(gpu, "targets", bytemuck::cast_slice(&targets))?;
        let candidate = choices.get(Op::Score);
        let float = Format::Float(DType::F32);
        let partial_elems = self.n_rows * score::partial_bytes(candidate, self.n) as usize / 4;
        let (partial_out, partial) =
            Output::new(gpu, "partial", float, &[], vec![Expected::Any; partial_elems])?;
        let (logprobs_out, logprobs) = Output::new(gpu, "logprobs", float, &[], logprobs)?;
        let (details_out, details) = Output::new(gpu, "details", float, &[], details)?;
        let n_rows = self.n_rows as u32;
        let step = step(gpu, Step { n_rows, first_row: FIRST_ROW as u32, ..Step::default() })?;
        let dispatches = record(gpu, |recorder| {
            let op = score::Score {
                step: (&step).into(),
                n: self.n,
                logits: &logits,
                targets: &targets,
                partial: &partial,
                logprobs: &logprobs,
                details: &details,
            };
            score::record(recorder, candidate, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "exp's 3 + 2|x| ulp, log's 2^-21 or 3 ulp, f32 sums of some sixty additions",
            dispatches,
            work: Work { n_rows, kv_len: 0 },
            outputs: vec![(partial_out, partial), (logprobs_out, logprobs), (details_out, details)],
        })
    }
}

/// Returns the expected four words of a row's details. Integers appear as the f32 with
/// their bits.
fn expected(logits: &[f32], target: usize) -> [Expected; 4] {
    let Some(score) = reference::score(logits, target) else {
        return [Expected::NotANumber, Expected::Any, Expected::Any, Expected::NotANumber];
    };
    let index = |i: usize| Expected::exactly(f64::from(f32::from_bits(i as u32)));
    let max = f64::from(logits[score.best]);
    let below = |x: &f32| (f64::from(*x) - max).max(-100.0);
    // Sums of the weights, and of the weights times their distances from the maximum.
    let (sum, distances) = logits
        .iter()
        .map(below)
        .fold((0.0, 0.0), |(sum, distances), x| (sum + x.exp(), distances - x * x.exp()));
    // exp is applied once in a chunk's sum and once in the merge of chunks. Its argument
    // is rounded.
    let weights = 2.0 * (3.0 + 2.0 * distances / sum) * ULP + distances / sum * U;
    let log = (3.0 * ULP * sum.ln()).max(2.0f64.powi(-21));
    let normaliser = weights + ADDITIONS * U + log;
    let value = |logprob: f64, distance: f64| {
        let tolerance = normaliser + U * (distance.abs() + logprob.abs());
        // A value below the range of f32 is minus infinity.
        let logprob = if logprob < f64::from(f32::MIN) { f64::NEG_INFINITY } else { logprob };
        Expected::Value { want: logprob, tolerance }
    };
    let own = value(score.logprob, f64::from(logits[target]) - max);
    [own, index(score.rank), index(score.best), value(score.best_logprob, 0.0)]
}

impl fmt::Display for ScoreCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} n={} {:?}", self.n_rows, self.n, self.input)
    }
}
