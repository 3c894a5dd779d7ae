//! Random selection of questions by a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Returns the indices of `limit` of `n` questions in ascending order, or of all without
/// a limit. They are the first ones of a permutation that depends only on the seed
/// (Fisher and Yates, numbers from ChaCha8). A larger limit therefore includes the
/// questions of a smaller one.
pub(super) fn sample(n: usize, limit: Option<usize>, seed: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..n).collect();
    let Some(limit) = limit.filter(|&limit| limit < n) else { return indices };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for i in 0..limit {
        indices.swap(i, i + below(&mut rng, (n - i) as u64) as usize);
    }
    indices.truncate(limit);
    indices.sort_unstable();
    indices
}

/// Returns a uniform random number below `n`. Draws from the incomplete interval at the
/// top are repeated.
fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let uneven = u64::MAX % n;
    loop {
        let draw = rng.next_u64();
        if draw < u64::MAX - uneven {
            return draw % n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_nested_and_fair() {
        assert_eq!(sample(5, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(sample(5, Some(9), 1), [0, 1, 2, 3, 4]);
        assert!(sample(5, Some(0), 1).is_empty());
        let (small, large) = (sample(1000, Some(10), 7), sample(1000, Some(20), 7));
        assert_eq!((small.len(), large.len()), (10, 20));
        assert!(small.is_sorted() && small.iter().all(|i| large.contains(i)));
        assert_ne!(sample(1000, Some(10), 8), small);
        // In 4000 draws of 5, each of the 10 is drawn 2000 times on average, with a
        // standard deviation of 32.
        let mut counts = [0; 10];
        (0..4000).for_each(|seed| sample(10, Some(5), seed).iter().for_each(|&i| counts[i] += 1));
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_samples_of_a_seed_never_change() {
        // Expected: draws of a second implementation in Python.
        assert_eq!(sample(10_042, Some(4), 0), [7364, 8914, 9720, 10_034]);
        assert_eq!(sample(10_042, Some(4), 1), [4384, 5429, 6247, 7578]);
    }
}
