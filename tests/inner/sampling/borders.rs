//! The distance of a draw from a border, by the CPU's distribution in f64.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wgpt::internals::sampling::Candidate;
use wgpt::{Sampler, SamplingParams};

fn candidates(params: SamplingParams, logits: &[f32]) -> Vec<Candidate> {
    Sampler::new(params, logits.len()).unwrap().candidates(logits, &[]).unwrap().to_vec()
}

/// Returns the uniform number of draw `i`.
fn uniform(seed: u64, i: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_word_pos(2 * u128::from(i));
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Returns the distance of draw `i` from the nearest border. A border is between two
/// neighbours in the cumulative distribution, or at the edge of the nucleus, whose mass
/// with or without its last token may almost equal top-p.
pub fn distance_to_border(params: &SamplingParams, logits: &[f32], i: u64) -> f64 {
    let u = uniform(params.seed.unwrap(), i);
    let mut survivors = candidates(params.clone(), logits);
    let n_survivors = survivors.len();
    survivors.sort_by_key(|c| c.token);
    let mut cumulative = 0.0;
    let mut nearest = f64::INFINITY;
    for candidate in &survivors[..n_survivors - 1] {
        cumulative += candidate.probability;
        nearest = nearest.min((cumulative - u).abs());
    }
    if params.top_p < 1.0 {
        let before = candidates(SamplingParams { top_p: 1.0, min_p: 0.0, ..params.clone() }, logits);
        let mut mass = 0.0;
        for candidate in &before {
            mass += candidate.probability;
            nearest = nearest.min((mass - f64::from(params.top_p)).abs());
        }
    }
    nearest
}

#[test]
fn distances_match_a_distribution_computed_by_hand() {
    // Logits whose probabilities are 1/2, 1/4, 1/4.
    let logits = [2f32.ln(), 0.0, 0.0];
    let params =
        |top_p| SamplingParams { temperature: 1.0, top_p, seed: Some(3), ..SamplingParams::greedy() };
    for i in 0..20 {
        let u = uniform(3, i);
        let of_distribution = (u - 0.5).abs().min((u - 0.75).abs());
        assert!((distance_to_border(&params(1.0), &logits, i) - of_distribution).abs() < 1e-6);
        // The nucleus for 0.745 has two tokens, with a mass of 0.75, close to top-p.
        let of_nucleus = (u - 2.0 / 3.0).abs().min(0.005);
        assert!((distance_to_border(&params(0.745), &logits, i) - of_nucleus).abs() < 1e-6);
    }
}
