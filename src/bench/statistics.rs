//! Mean and spread of a few samples.

pub use crate::tune::quantile;

/// Returns the arithmetic mean, or 0 without samples.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

/// Returns the standard deviation of a sample (divisor n - 1), or 0 for fewer than two
/// samples.
#[must_use]
pub fn standard_deviation(samples: &[f64]) -> f64 {
    if samples.len() < 2 {
        return 0.0;
    }
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (samples.len() - 1) as f64).sqrt()
}

/// Median, tenth and ninetieth percentile in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    /// The median.
    pub median_ns: f64,
    /// The tenth percentile.
    pub p10_ns: f64,
    /// The ninetieth percentile.
    pub p90_ns: f64,
}

impl Spread {
    /// Computes the spread of samples in nanoseconds.
    #[must_use]
    pub fn of(samples_ns: &[u64]) -> Self {
        let samples: Vec<f64> = samples_ns.iter().map(|&ns| ns as f64).collect();
        let at = |q| quantile(&samples, q);
        Spread { median_ns: at(0.5), p10_ns: at(0.1), p90_ns: at(0.9) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, mean, standard_deviation};

    #[test]
    fn a_spread_is_three_quantiles() {
        let spread = Spread { median_ns: 2.0, p10_ns: 1.2, p90_ns: 2.8 };
        assert_eq!(Spread::of(&[3, 1, 2]), spread);
    }

    #[test]
    fn statistics_match_a_hand_calculation() {
        let samples = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&samples), 5.0);
        assert!((standard_deviation(&samples) - (32.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!((mean(&[3.0]), standard_deviation(&[3.0])), (3.0, 0.0));
        assert_eq!((mean(&[]), standard_deviation(&[])), (0.0, 0.0));
    }
}
