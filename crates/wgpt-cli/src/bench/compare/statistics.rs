//! The ratio of two sets of samples, and its confidence interval.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use wgpt::internals::bench::{mean, quantile, standard_deviation};

/// How an interval was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Ratio of medians with a percentile bootstrap (Efron and Tibshirani 1993, chapter
    /// 13). Medians ignore single samples that the system disturbed.
    BootstrapMedians,
    /// Ratio of geometric means with Welch's t interval on the logarithms (Welch 1947).
    /// It is also valid for a few samples, for which a bootstrap's interval is too narrow.
    WelchLogs,
    /// Only the ratio, because a set of one sample has no spread.
    None,
}

/// A ratio with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    /// Both ends; equal to the ratio if there is no method.
    pub interval: (f64, f64),
    pub method: Method,
}

/// Medians are bootstrapped if both sets have at least this many samples.
const BOOTSTRAP_SAMPLES: usize = 20;
/// Enough that 20 resamples are beyond each end of a 99 % interval.
const RESAMPLES: usize = 4000;

/// Returns the ratio of `b` to `a`, whose samples are all above 0, with an interval that
/// contains the true ratio with a probability of `confidence` (0 to 1). The same samples
/// give the same result.
pub fn ratio(a: &[f64], b: &[f64], confidence: f64) -> Ratio {
    if a.len().min(b.len()) >= BOOTSTRAP_SAMPLES {
        return bootstrap(a, b, confidence);
    }
    welch(a, b, confidence)
}

fn bootstrap(a: &[f64], b: &[f64], confidence: f64) -> Ratio {
    let median = |samples: &[f64]| quantile(samples, 0.5);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut resampled = |samples: &[f64]| {
        let below = |n: usize, bits: u32| ((u64::from(bits) * n as u64) >> 32) as usize;
        let drawn: Vec<f64> =
            (0..samples.len()).map(|_| samples[below(samples.len(), random.next_u32())]).collect();
        median(&drawn)
    };
    let ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (a, b) = (resampled(a), resampled(b));
            b / a
        })
        .collect();
    let tail = (1.0 - confidence) / 2.0;
    let interval = (quantile(&ratios, tail), quantile(&ratios, 1.0 - tail));
    Ratio { ratio: median(b) / median(a), interval, method: Method::BootstrapMedians }
}

fn welch(a: &[f64], b: &[f64], confidence: f64) -> Ratio {
    let logs = |samples: &[f64]| samples.iter().map(|x| x.ln()).collect::<Vec<f64>>();
    let (a, b) = (logs(a), logs(b));
    let difference = mean(&b) - mean(&a);
    let ratio = difference.exp();
    if a.len().min(b.len()) < 2 {
        return Ratio { ratio, interval: (ratio, ratio), method: Method::None };
    }
    let variance = |samples: &[f64]| standard_deviation(samples).powi(2) / samples.len() as f64;
    let (va, vb) = (variance(&a), variance(&b));
    let error = (va + vb).sqrt();
    let freedom = (va + vb).powi(2) / (va.powi(2) / (a.len() - 1) as f64 + vb.powi(2) / (b.len() - 1) as f64);
    // Without any spread, the ratio is exact.
    let half = match StudentsT::new(0.0, 1.0, freedom) {
        Ok(t) if error > 0.0 => error * t.inverse_cdf(0.5 + confidence / 2.0),
        _ => 0.0,
    };
    let interval = ((difference - half).exp(), (difference + half).exp());
    Ratio { ratio, interval, method: Method::WelchLogs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, want: f64) -> bool {
        (found - want).abs() < 1e-6
    }

    #[test]
    fn welch_intervals_match_a_hand_calculation() {
        // The logarithms are 1, 2, 3 and 2, 4, 6. Their means are 2 and 4, the variances
        // of the means 1/3 and 4/3. So the error is sqrt(5/3), with (5/3)^2 / ((1/9 +
        // 16/9) / 2) = 50/17 degrees of freedom. The 0.975 quantile of t is then
        // 3.2187586 (by Simpson's rule on its density).
        let of = |logs: [f64; 3]| logs.map(f64::exp);
        let found = welch(&of([1.0, 2.0, 3.0]), &of([2.0, 4.0, 6.0]), 0.95);
        assert!(near(found.ratio.ln(), 2.0), "{found:?}");
        let half = 3.218_758_6 * (5.0_f64 / 3.0).sqrt();
        assert!((found.interval.0.ln() - (2.0 - half)).abs() < 1e-6, "{}", found.interval.0.ln());
        assert!((found.interval.1.ln() - (2.0 + half)).abs() < 1e-6, "{}", found.interval.1.ln());
        assert_eq!(found.method, Method::WelchLogs);
    }

    #[test]
    fn samples_without_spread_and_single_samples_are_handled() {
        let found = ratio(&[2.0, 2.0], &[3.0, 3.0], 0.95);
        assert!(near(found.ratio, 1.5) && near(found.interval.0, 1.5) && near(found.interval.1, 1.5));
        let found = ratio(&[2.0], &[3.0, 3.1], 0.95);
        assert_eq!(found.method, Method::None);
    }

    /// Returns 25 samples: 24 around `center` and one that the system disturbed.
    fn samples(center: f64, seed: u64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let noise = |bits: u32| f64::from(bits) / f64::from(u32::MAX) - 0.5;
        let mut all: Vec<f64> = (0..25).map(|_| center * (1.0 + 0.04 * noise(random.next_u32()))).collect();
        all[7] *= 12.0;
        all
    }

    #[test]
    fn medians_of_many_samples_are_bootstrapped() {
        let (a, b) = (samples(100.0, 1), samples(110.0, 2));
        let found = ratio(&a, &b, 0.95);
        assert_eq!(found.method, Method::BootstrapMedians);
        assert!(found.interval.0 < 1.1 && 1.1 < found.interval.1, "{found:?}");
        assert!(found.interval.0 > 1.07 && found.interval.1 < 1.13, "{found:?}");
        assert_eq!(ratio(&a, &b, 0.95), found, "the same samples give the same interval");
        let wider = ratio(&a, &b, 0.99);
        assert!(wider.interval.0 <= found.interval.0 && wider.interval.1 >= found.interval.1);
        // With 19 samples the method changes: means of logarithms include the disturbed
        // sample.
        assert_eq!(ratio(&a[..19], &b, 0.95).method, Method::WelchLogs);
    }

    #[test]
    fn equal_distributions_are_rarely_reported_as_different() {
        let mut wrong = 0;
        for seed in 0..100 {
            let found = ratio(&samples(100.0, 2 * seed), &samples(100.0, 2 * seed + 1), 0.95);
            wrong += usize::from(!(found.interval.0 <= 1.0 && 1.0 <= found.interval.1));
        }
        // 5 are expected; the percentile bootstrap of medians is close to that.
        assert!(wrong <= 12, "{wrong} of 100");
        let mut wrong = 0;
        for seed in 0..100 {
            let (a, b) = (samples(100.0, 2 * seed), samples(100.0, 2 * seed + 1));
            let found = ratio(&a[..5], &b[..5], 0.95);
            wrong += usize::from(!(found.interval.0 <= 1.0 && 1.0 <= found.interval.1));
        }
        assert!(wrong <= 10, "{wrong} of 100");
    }
}
