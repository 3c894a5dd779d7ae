//! The tokens that may be drawn, and their probabilities: temperature, top-k, top-p,
//! min-p.

use std::cmp::Ordering;

use super::params::SamplingParams;

/// A token that survived the filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub token: u32,
    /// Its logit after penalties and bias, before temperature.
    pub logit: f32,
    /// Its probability among the survivors, whose probabilities sum to 1.
    pub probability: f64,
}

/// Number of candidates that are sorted first if top-k is off but top-p or min-p is on. A
/// nucleus rarely needs more. If it does, [`GROWTH`] times as many are sorted, so a flat
/// distribution costs a few passes instead of hundreds.
const FIRST_K: usize = 1024;
const GROWTH: usize = 8;

/// The order of candidates: descending by logit, then ascending by id.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// Returns the maximum length of [`largest`]'s buffer.
///
/// A length of twice `k` makes selections rare, because each one frees space for `k` more
/// candidates. The constant is for small `k`, where a selection costs more than scanning
/// its candidates.
pub(super) fn buffer_len(k: usize, vocab_size: usize) -> usize {
    k.saturating_mul(2).saturating_add(256).min(vocab_size)
}

/// Writes the `k` largest of `logits` to `out`, in the order of [`by_rank`], with
/// probability
/// 0. Never includes -inf. No logit may be NaN.
///
/// It makes one pass and keeps only logits above the k-th largest value so far. A typical
/// row costs `vocab_size` comparisons and a sort of `k` candidates.
pub(super) fn largest(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    if k == 0 {
        return;
    }
    let limit = buffer_len(k, logits.len());
    let mut threshold = f32::NEG_INFINITY;
    for (token, &logit) in logits.iter().enumerate() {
        // A logit equal to the threshold has a higher id than the k found so far, so it
        // ranks below them.
        if logit > threshold {
            if out.len() == limit {
                out.select_nth_unstable_by(k - 1, by_rank);
                out.truncate(k);
                threshold = out[k - 1].logit;
                if logit <= threshold {
                    continue;
                }
            }
            // Adding 0 turns -0 into 0, so that they tie.
            out.push(Candidate { token: token as u32, logit: logit + 0.0, probability: 0.0 });
        }
    }
    if out.len() > k {
        out.select_nth_unstable_by(k - 1, by_rank);
        out.truncate(k);
    }
    out.sort_unstable_by(by_rank);
}

/// Returns the token with the largest logit, or the lowest such id if there is a tie.
pub(super) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Fills `out` with the survivors of the filters, most likely first. `out` is never empty
/// afterwards.
///
/// `logits` include penalties and bias, and have been checked: none is NaN or +inf. `max`
/// is the largest of them and is finite.
pub(super) fn survivors(params: &SamplingParams, logits: &[f32], max: f32, out: &mut Vec<Candidate>) {
    if params.temperature == 0.0 {
        let token = argmax(logits);
        out.clear();
        out.push(Candidate { token, logit: max, probability: 1.0 });
        return;
    }
    let temperature = f64::from(params.temperature);
    // Nothing overflows in f64 relative to the maximum, at any temperature.
    let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
    let (top_p, min_p) = (f64::from(params.top_p), f64::from(params.min_p));

    let limit = k_limit(params, logits.len());
    let filtered = top_p < 1.0 || min_p > 0.0;
    let mut k = if limit == logits.len() && filtered { FIRST_K.min(limit) } else { limit };
    let total = if k < limit { Some(logits.iter().map(|&l| weight(l)).sum::<f64>()) } else { None };
    loop {
        largest(logits, k, out);
        for candidate in &mut *out {
            candidate.probability = weight(candidate.logit);
        }
        let total = total.unwrap_or_else(|| out.iter().map(|c| c.probability).sum());
        for candidate in &mut *out {
            candidate.probability /= total;
        }
        if filter(top_p, min_p, out) || k == limit {
            break;
        }
        k = k.saturating_mul(GROWTH).min(limit);
    }
    let kept: f64 = out.iter().map(|c| c.probability).sum();
    for candidate in out {
        candidate.probability /= kept;
    }
}

/// Returns whether top-k, top-p or min-p may remove a token.
pub(super) fn filters(params: &SamplingParams, vocab_size: usize) -> bool {
    k_limit(params, vocab_size) < vocab_size || params.top_p < 1.0 || params.min_p > 0.0
}

/// Returns the token whose share of the cumulative distribution contains `u` in \[0, 1).
/// The distribution is over all tokens in ascending order of id. Without filters, this
/// equals a draw among the survivors but needs no sort. `max` is as in [`survivors`];
/// `temperature` is above 0.
pub(super) fn draw_unfiltered(temperature: f32, logits: &[f32], max: f32, u: f64) -> u32 {
    let temperature = f64::from(temperature);
    let weights = || logits.iter().map(|&l| ((f64::from(l) - f64::from(max)) / temperature).exp());
    let place = u * weights().sum::<f64>();
    let (mut cumulative, mut last) = (0.0, 0);
    for (token, weight) in weights().enumerate().filter(|(_, weight)| *weight > 0.0) {
        cumulative += weight;
        last = token as u32;
        if place < cumulative {
            break;
        }
    }
    // The loop adds the same numbers in the same order as the sum. `place` can reach the
    // total only if the product is rounded up. It then belongs to the last token.
    last
}

/// Returns the number of candidates that top-k keeps.
pub(super) fn k_limit(params: &SamplingParams, vocab_size: usize) -> usize {
    if params.top_k == 0 { vocab_size } else { params.top_k.min(vocab_size) }
}

/// Reduces sorted candidates to those that top-p and min-p keep, and removes candidates
/// whose probability underflowed to 0. Returns whether the result is final, which means
/// that no candidate with a lower rank would have been kept.
fn filter(top_p: f64, min_p: f64, out: &mut Vec<Candidate>) -> bool {
    let before = out.len();
    let mut crossed = false;
    if top_p < 1.0 {
        let (mut mass, mut n) = (0.0, 0);
        while mass < top_p && n < out.len() {
            mass += out[n].probability;
            n += 1;
        }
        crossed = mass >= top_p;
        out.truncate(n);
    }
    let floor = min_p * out[0].probability;
    out.truncate(out.partition_point(|c| c.probability >= floor && c.probability > 0.0));
    crossed || out.len() < before
}

/// Returns the candidate whose share of the cumulative distribution, in the order of the
/// slice, contains `u` in \[0, 1).
pub(super) fn at_quantile(candidates: &[Candidate], u: f64) -> Option<u32> {
    let mut cumulative = 0.0;
    let found = candidates.iter().find(|c| {
        cumulative += c.probability;
        u < cumulative
    });
    // Rounding may leave the sum below 1. A `u` beyond the sum belongs to the last
    // candidate.
    found.or(candidates.last()).map(|c| c.token)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Returns the same ids, by a full sort.
    fn sorted(logits: &[f32], k: usize) -> Vec<u32> {
        let mut ids: Vec<u32> =
            (0..logits.len() as u32).filter(|&t| logits[t as usize] > f32::NEG_INFINITY).collect();
        // A stable sort keeps equal logits in order of id.
        ids.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        ids.truncate(k);
        ids
    }

    fn rows(n: usize) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut random = |levels: u64| -> Vec<f32> {
            (0..n).map(|_| (rng.next_u64() % levels) as f32 / 16.0 - 4.0).collect()
        };
        let rising: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let falling: Vec<f32> = rising.iter().map(|l| -l).collect();
        let zeros: Vec<f32> = (0..n).map(|i| if i % 3 == 0 { -0.0 } else { 0.0 }).collect();
        let mut banned = random(1 << 20);
        banned.iter_mut().step_by(2).for_each(|l| *l = f32::NEG_INFINITY);
        vec![random(1 << 20), random(3), rising, falling, zeros, banned]
    }

    #[test]
    fn largest_equals_a_full_sort() {
        let mut out = Vec::new();
        for n in [1, 2, 255, 256, 257, 5000] {
            for row in rows(n) {
                for k in [0, 1, 2, 40, 300, n - 1, n, n + 1, usize::MAX] {
                    largest(&row, k, &mut out);
                    let ids: Vec<u32> = out.iter().map(|c| c.token).collect();
                    assert_eq!(ids, sorted(&row, k), "n {n} k {k}");
                    assert!(out.iter().all(|c| c.logit == row[c.token as usize]));
                }
            }
        }
    }

    #[test]
    fn growing_the_first_try_equals_a_full_sort() {
        let mut out = Vec::new();
        for row in rows(20_000) {
            for (temperature, top_p, min_p) in
                [(0.3, 0.9, 0.0), (1.0, 0.5, 0.0), (1.0, 0.999, 0.0), (2.0, 1.0, 0.2), (1.0, 0.9, 0.1)]
            {
                let params =
                    SamplingParams { temperature, top_p, min_p, top_k: 0, ..SamplingParams::greedy() };
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                survivors(&params, &row, max, &mut out);

                let ids = sorted(&row, row.len());
                let weight = |&t: &u32| (f64::from(row[t as usize] - max) / f64::from(temperature)).exp();
                let total: f64 = ids.iter().map(weight).sum();
                let mut mass = 0.0;
                let nucleus = ids.iter().take_while(|&t| {
                    let below = mass < f64::from(top_p);
                    mass += weight(t) / total;
                    below && weight(t) >= f64::from(min_p) * weight(&ids[0]) && weight(t) > 0.0
                });
                let expected: Vec<u32> = nucleus.copied().collect();
                let found: Vec<u32> = out.iter().map(|c| c.token).collect();
                assert_eq!(found.len(), expected.len(), "{temperature} {top_p} {min_p}");
                assert_eq!(found, expected);
                let sum: f64 = out.iter().map(|c| c.probability).sum();
                assert!((sum - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn argmax_takes_the_lowest_id_on_a_tie() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[-0.0, 0.0]), 0);
        assert_eq!(argmax(&[f32::NEG_INFINITY, -5.0]), 1);
    }

    #[test]
    fn quantiles_follow_the_cumulative_distribution() {
        let candidate = |token, probability| Candidate { token, logit: 0.0, probability };
        let candidates = [candidate(7, 0.5), candidate(3, 0.25), candidate(5, 0.25 - 1e-9)];
        let at = |u| at_quantile(&candidates, u).unwrap();
        assert_eq!([at(0.0), at(0.499), at(0.5), at(0.749), at(0.75)], [7, 7, 3, 3, 5]);
        // Above the rounded sum.
        assert_eq!(at(1.0 - 1e-12), 5);
    }
}
