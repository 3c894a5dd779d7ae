//! Means with standard errors, medians and quantiles.

use serde::{Deserialize, Serialize};

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeanError {
    /// The arithmetic mean.
    pub mean: f64,
    /// Standard deviation (divisor n - 1) divided by the square root of n; 0 for fewer
    /// than two values.
    pub standard_error: f64,
}

/// Running mean and spread of a stream of values by Welford's recurrence (Knuth, The Art
/// of Computer Programming, volume 2, 4.2.2). Large sums do not cost it digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if !value.is_finite() || !self.mean.is_finite() {
            // After an infinite value the mean is infinite and the spread is unknown.
            self.mean += value;
            self.squares = f64::NAN;
            return;
        }
        let from_old = value - self.mean;
        self.mean += from_old / self.count as f64;
        self.squares += from_old * (value - self.mean);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn result(&self) -> MeanError {
        let n = self.count as f64;
        let standard_error = if self.count < 2 { 0.0 } else { (self.squares / (n - 1.0) / n).sqrt() };
        MeanError { mean: self.mean, standard_error }
    }
}

/// Returns the quantile `q` of ascending `values`, interpolated linearly, or NaN without
/// values.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    // The difference of two infinities would be NaN.
    if low == high { low } else { low + (high - low) * place.fract() }
}

/// Returns the median, or NaN without values.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_match_a_hand_calculation() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        let MeanError { mean, standard_error } = moments.result();
        // The squared deviations from 5 add up to 32.
        assert_eq!(mean, 5.0);
        assert!((standard_error - (32.0_f64 / 7.0 / 8.0).sqrt()).abs() < 1e-15);
        assert_eq!((moments.count(), Moments::default().result()), (8, MeanError::default()));
        assert_eq!([quantile(&values, 0.0), quantile(&values, 1.0), median(values)], [2.0, 9.0, 4.5]);
        assert_eq!([quantile(&[1.0, 2.0], 0.25), median([3.0, 1.0, 2.0])], [1.25, 2.0]);
        assert!(median([]).is_nan());
        assert_eq!(quantile(&[f64::INFINITY; 2], 0.5), f64::INFINITY);
    }

    #[test]
    fn one_infinite_value_makes_the_mean_infinite() {
        let mut moments = Moments::default();
        [1.0, f64::INFINITY, 2.0].iter().for_each(|&value| moments.add(value));
        assert_eq!(moments.result().mean, f64::INFINITY);
        assert!(moments.result().standard_error.is_nan());
    }
}
