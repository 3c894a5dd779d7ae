//! The shape of a noisy line: its noise, spikes and slope.

use crate::statistics::median;

/// Minimum number of points to distinguish noise from the bend of the line.
pub(super) const NOISE_FROM: usize = 8;
/// Standard deviation of a normal distribution divided by its median absolute value.
const NORMAL: f64 = 1.4826;
/// Points on either side with which a spike is compared. A spike of up to 5 points is
/// then detected at its middle.
const NEIGHBOURS: usize = 5;
/// A spike exceeds its neighbours by more than this many standard deviations of the noise.
const SPIKE_NOISE: f64 = 5.0;
/// A spike exceeds its neighbours by more than this fraction of the loss.
const SPIKE_PART: f64 = 0.05;
/// If the noise is unknown, a spike exceeds its neighbours by more than this fraction.
const SPIKE_PART_OF_FEW: f64 = 0.20;

/// A step and its loss.
pub(super) type Place = (f64, f64);

/// Returns the standard deviation of the noise, or `None` for fewer than [`NOISE_FROM`]
/// points.
///
/// The estimate uses differences of second differences. These vanish on a parabola with
/// equal steps, so the bend of the line has no effect. The estimate takes their median, so
/// a spike or a steep start has no effect either.
pub(super) fn noise(line: &[Place]) -> Option<f64> {
    if line.len() < NOISE_FROM {
        return None;
    }
    let residuals = line.windows(4).map(|at| {
        // Weights of the right neighbours of the two inner points.
        let part = |i: usize| (at[i].0 - at[i - 1].0) / (at[i + 1].0 - at[i - 1].0);
        let (u, v) = (part(1), part(2));
        let weights = [1.0 - u, v - 2.0, 1.0 + u, -v];
        let sum: f64 = weights.iter().zip(at).map(|(weight, at)| weight * at.1).sum();
        let scale = weights.iter().map(|weight| weight * weight).sum::<f64>().sqrt();
        (sum / scale).abs()
    });
    Some(NORMAL * median(residuals))
}

/// Returns the indices of the spikes of a line: points that exceed the medians of their
/// neighbours on both sides by more than the noise explains. Of adjacent points, only the
/// highest is returned.
pub(super) fn spikes(line: &[Place]) -> Vec<usize> {
    let noise = noise(line);
    let mut peaks: Vec<usize> = Vec::new();
    let mut last = None;
    for i in 1..line.len().saturating_sub(1) {
        let base = base(line, i);
        let least = match noise {
            Some(noise) => (SPIKE_NOISE * noise).max(SPIKE_PART * base.abs()),
            None => SPIKE_PART_OF_FEW * base.abs(),
        };
        if line[i].1 - base <= least {
            continue;
        }
        match peaks.last_mut() {
            Some(peak) if last == Some(i - 1) => {
                if line[i].1 > line[*peak].1 {
                    *peak = i;
                }
            }
            _ => peaks.push(i),
        }
        last = Some(i);
    }
    peaks
}

/// Returns the level around a point: the higher of the medians on both sides. With it,
/// neither a falling nor a rising line counts as a spike.
pub(super) fn base(line: &[Place], i: usize) -> f64 {
    let before = &line[i.saturating_sub(NEIGHBOURS)..i];
    let behind = &line[i + 1..line.len().min(i + 1 + NEIGHBOURS)];
    let level = |side: &[Place]| median(side.iter().map(|place| place.1));
    level(before).max(level(behind))
}

/// Returns the lowest place of a line as its index and the running median of three there.
/// A single low point does not affect the median.
pub(super) fn lowest(line: &[Place]) -> Option<(usize, f64)> {
    let at = |i: usize| {
        if i == 0 || i + 1 == line.len() {
            return line[i].1;
        }
        median(line[i - 1..i + 2].iter().map(|place| place.1))
    };
    // At a sharp minimum, the neighbours have the same median; the lower loss decides.
    let order = |i: &usize, j: &usize| at(*i).total_cmp(&at(*j)).then(line[*i].1.total_cmp(&line[*j].1));
    (0..line.len()).min_by(order).map(|i| (i, at(i)))
}

/// Returns the slope of a line: the median of the slopes between all pairs of its points
/// (Theil 1950, Sen 1968), or 0 for fewer than two points.
pub(super) fn slope(line: &[Place]) -> f64 {
    // The number of pairs grows with the square of the points, so long lines use every
    // n-th point.
    const POINTS_MAX: usize = 500;
    let line: Vec<Place> = line.iter().copied().step_by(line.len() / POINTS_MAX + 1).collect();
    let pairs = line
        .iter()
        .enumerate()
        .flat_map(|(i, a)| line[i + 1..].iter().map(move |b| (b.1 - a.1) / (b.0 - a.0)));
    let slopes: Vec<f64> = pairs.collect();
    if slopes.is_empty() { 0.0 } else { median(slopes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(losses: &[f64]) -> Vec<Place> {
        losses.iter().enumerate().map(|(i, &loss)| (i as f64, loss)).collect()
    }

    #[test]
    fn a_smooth_bend_is_not_noise() {
        let parabola: Vec<f64> = (0..20).map(|i| 3.0 + 0.01 * f64::from(i * i)).collect();
        assert!(noise(&line(&parabola)).unwrap() < 1e-12);
        assert_eq!(noise(&line(&parabola[..NOISE_FROM - 1])), None);
    }

    #[test]
    fn noise_is_a_standard_deviation() {
        // Irregular signs; each loss deviates by 0.01.
        let signs = "++-+---+++-+--+-++++--+-+-++---+---++-++-+-+--".chars();
        let losses: Vec<f64> = signs.map(|c| if c == '+' { 2.01 } else { 1.99 }).collect();
        let found = noise(&line(&losses)).unwrap();
        assert!((0.007..0.02).contains(&found), "{found}");
    }

    #[test]
    fn a_spike_is_reported_at_its_highest_point() {
        let mut losses: Vec<f64> = (0..40).map(|i| 3.0 - 0.01 * f64::from(i)).collect();
        assert!(spikes(&line(&losses)).is_empty());
        (losses[7], losses[8], losses[9], losses[15]) = (3.5, 4.0, 3.6, 3.2);
        assert_eq!(spikes(&line(&losses)), [8, 15]);
        // A rise that stays is not a spike.
        let step: Vec<f64> = (0..20).map(|i| if i < 10 { 3.0 } else { 4.0 }).collect();
        assert!(spikes(&line(&step)).is_empty());
    }

    #[test]
    fn slopes_ignore_outliers() {
        let mut losses: Vec<f64> = (0..11).map(|i| 3.0 - 0.5 * f64::from(i)).collect();
        losses[4] = 100.0;
        assert_eq!(slope(&line(&losses)), -0.5);
        assert_eq!((slope(&line(&[1.0])), slope(&[])), (0.0, 0.0));
        let long: Vec<f64> = (0..5000).map(|i| f64::from(i) * 2.0).collect();
        assert_eq!(slope(&line(&long)), 2.0);
    }

    #[test]
    fn a_single_low_point_is_not_the_minimum() {
        // Medians of three: 4, 3, 3.1, 3.1.
        assert_eq!(lowest(&line(&[5.0, 1.0, 4.0, 3.0, 3.1, 3.2])), Some((2, 3.0)));
        // A sharp minimum is found exactly.
        assert_eq!(lowest(&line(&[3.0, 2.0, 1.0, 2.0, 3.0])), Some((2, 2.0)));
        assert_eq!(lowest(&[]), None);
    }
}
