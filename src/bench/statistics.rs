//! Mean and spread of a few samples.

/// The arithmetic mean; 0 of no sample.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

/// The standard deviation of a sample (divisor n - 1); 0 below two samples.
#[must_use]
pub fn standard_deviation(samples: &[f64]) -> f64 {
    if samples.len() < 2 {
        return 0.0;
    }
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (samples.len() - 1) as f64).sqrt()
}

/// The value below which a share of `q` (0 to 1) of the samples lies, by linear
/// interpolation between neighbours (Hyndman and Fan 1996, type 7: the default
/// of R and numpy); 0 of no sample.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// Median with the tenth and the ninetieth percentile.
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
    /// Of nanoseconds.
    #[must_use]
    pub fn of(samples_ns: &[u64]) -> Self {
        let samples: Vec<f64> = samples_ns.iter().map(|&ns| ns as f64).collect();
        let at = |q| quantile(&samples, q);
        Spread { median_ns: at(0.5), p10_ns: at(0.1), p90_ns: at(0.9) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, mean, quantile, standard_deviation};

    #[test]
    fn quantiles() {
        let samples = [40.0, 10.0, 30.0, 20.0];
        // As numpy.quantile has them.
        for (q, want) in [(0.0, 10.0), (0.1, 13.0), (0.5, 25.0), (0.9, 37.0), (1.0, 40.0)] {
            assert!((quantile(&samples, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!((quantile(&[7.0], 0.9), quantile(&[], 0.5)), (7.0, 0.0));
        let spread = Spread { median_ns: 2.0, p10_ns: 1.2, p90_ns: 2.8 };
        assert_eq!(Spread::of(&[3, 1, 2]), spread);
    }

    #[test]
    fn worked_figures() {
        let samples = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&samples), 5.0);
        assert!((standard_deviation(&samples) - (32.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!((mean(&[3.0]), standard_deviation(&[3.0])), (3.0, 0.0));
        assert_eq!((mean(&[]), standard_deviation(&[])), (0.0, 0.0));
    }
}
