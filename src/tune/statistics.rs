//! Quantiles, and a test of whether one set of times is better than another.

/// Returns the value below which a fraction `q` (0 to 1) of the samples is, with linear
/// interpolation between neighbours (Hyndman and Fan 1996, type 7: the default of R and
/// numpy). Returns 0 without samples.
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

/// Minimum number of rounds for a choice. Quartiles of fewer samples are unreliable.
pub(super) const ROUNDS_MIN: usize = 5;

/// Minimum relative gain of the median. A choice changes the last bits of a result, which
/// is not worth a smaller gain.
const GAIN_MIN: f64 = 0.03;

/// Returns whether `samples` are better than the default's samples from the same rounds.
/// The median must be lower by more than [`GAIN_MIN`]. The upper quartile must be below
/// the default's lower quartile, so noise in half of the samples does not decide.
pub(super) fn is_better(samples: &[f64], default: &[f64]) -> bool {
    samples.len().min(default.len()) >= ROUNDS_MIN
        && quantile(samples, 0.5) < (1.0 - GAIN_MIN) * quantile(default, 0.5)
        && quantile(samples, 0.75) < quantile(default, 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_match_numpy() {
        let samples = [40.0, 10.0, 30.0, 20.0];
        // Expected: results of numpy.quantile.
        for (q, want) in [(0.0, 10.0), (0.1, 13.0), (0.5, 25.0), (0.9, 37.0), (1.0, 40.0)] {
            assert!((quantile(&samples, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!((quantile(&[7.0], 0.9), quantile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn only_a_clear_gain_counts() {
        let default = [100.0, 101.0, 102.0, 103.0, 104.0];
        let times = |factor: f64| default.map(|ns| ns * factor);
        assert!(is_better(&times(0.9), &default));
        // A gain of 2 % is not enough, however clear it is.
        assert!(!is_better(&[100.0; 5].map(|ns| ns * 0.98), &[100.0; 5]));
        // The median is better, but the quartiles overlap.
        assert!(!is_better(&[80.0, 85.0, 90.0, 103.0, 110.0], &default));
        // Too few rounds.
        assert!(!is_better(&times(0.5)[..4], &default));
        assert!(!is_better(&times(0.5), &default[..4]));
        assert!(!is_better(&default, &default));
    }
}
