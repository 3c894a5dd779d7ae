//! Quantiles, and when one set of times is better than another.

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

/// Rounds below which nothing is chosen: quartiles of fewer samples say nothing.
pub(super) const ROUNDS_MIN: usize = 5;

/// What a median must gain at the least: a choice changes the last bits of a
/// text, and less is not worth that.
const GAIN_MIN: f64 = 0.03;

/// Whether times are better than those of the default, taken in the same rounds:
/// the median by more than [`GAIN_MIN`], and the upper quartile below the lower
/// quartile of the default's, so that noise which moves half of the samples does
/// not decide.
pub(super) fn is_better(samples: &[f64], default: &[f64]) -> bool {
    samples.len().min(default.len()) >= ROUNDS_MIN
        && quantile(samples, 0.5) < (1.0 - GAIN_MIN) * quantile(default, 0.5)
        && quantile(samples, 0.75) < quantile(default, 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let samples = [40.0, 10.0, 30.0, 20.0];
        // As numpy.quantile has them.
        for (q, want) in [(0.0, 10.0), (0.1, 13.0), (0.5, 25.0), (0.9, 37.0), (1.0, 40.0)] {
            assert!((quantile(&samples, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!((quantile(&[7.0], 0.9), quantile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn only_a_clear_gain_is_one() {
        let default = [100.0, 101.0, 102.0, 103.0, 104.0];
        let times = |factor: f64| default.map(|ns| ns * factor);
        assert!(is_better(&times(0.9), &default));
        // 2 % are not enough, however clear.
        assert!(!is_better(&[100.0; 5].map(|ns| ns * 0.98), &[100.0; 5]));
        // A better median with quartiles that overlap.
        assert!(!is_better(&[80.0, 85.0, 90.0, 103.0, 110.0], &default));
        // Too few rounds.
        assert!(!is_better(&times(0.5)[..4], &default));
        assert!(!is_better(&times(0.5), &default[..4]));
        assert!(!is_better(&default, &default));
    }
}
