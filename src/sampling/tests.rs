//! The worked examples and the statistics of the draws, through [`Sampler`].

use super::*;

const LOGITS: [f32; 8] = [2.0, 1.5, 0.8, 0.3, 0.1, 1.2, 0.6, 0.9];

/// Everything off except the draw.
fn plain() -> SamplingParams {
    SamplingParams { temperature: 1.0, seed: Some(1), ..SamplingParams::greedy() }
}

fn distribution(params: SamplingParams, logits: &[f32]) -> Vec<(u32, f64)> {
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    let candidates = sampler.candidates(logits, &[]).unwrap();
    candidates.iter().map(|c| (c.token, c.probability)).collect()
}

fn ids(distribution: &[(u32, f64)]) -> Vec<u32> {
    distribution.iter().map(|d| d.0).collect()
}

/// The expected values have six digits.
#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "found {found}, expected {expected}");
}

#[test]
fn probabilities_are_a_softmax_with_temperature() {
    for (temperature, p0) in [(1.0, 0.305925), (0.3, 0.759373), (2.0, 0.204682)] {
        let found = distribution(SamplingParams { temperature, ..plain() }, &LOGITS);
        assert_eq!(ids(&found), [0, 1, 5, 7, 2, 6, 3, 4]);
        close(found[0].1, p0);
        close(found.iter().map(|d| d.1).sum(), 1.0);
    }
}

#[test]
fn top_k_keeps_three() {
    let found = distribution(SamplingParams { top_k: 3, ..plain() }, &LOGITS);
    assert_eq!(ids(&found), [0, 1, 5]);
    for (found, expected) in found.iter().zip([0.486415, 0.295025, 0.218560]) {
        close(found.1, expected);
    }
    assert_eq!(distribution(SamplingParams { top_k: 99, ..plain() }, &LOGITS).len(), 8);
}

#[test]
fn top_p_keeps_the_token_that_crosses_the_threshold() {
    let all = distribution(plain(), &LOGITS);
    let found = distribution(SamplingParams { top_p: 0.8, ..plain() }, &LOGITS);
    assert_eq!(ids(&found), [0, 1, 5, 7, 2]);
    let mass: f64 = all[..5].iter().map(|d| d.1).sum();
    close(mass, 0.822916);
    for (found, all) in found.iter().zip(&all) {
        close(found.1, all.1 / mass);
    }
    assert_eq!(ids(&distribution(SamplingParams { top_p: 1e-9, ..plain() }, &LOGITS)), [0]);
}

#[test]
fn min_p_is_relative_to_the_likeliest() {
    // exp(1.5 - 2) = 0.607, exp(1.2 - 2) = 0.449, exp(0.9 - 2) = 0.333
    for (min_p, expected) in [(0.5, &[0, 1][..]), (0.4, &[0, 1, 5]), (0.3, &[0, 1, 5, 7, 2]), (1.0, &[0])] {
        assert_eq!(ids(&distribution(SamplingParams { min_p, ..plain() }, &LOGITS)), expected);
    }
    assert_eq!(ids(&distribution(SamplingParams { min_p: 1.0, ..plain() }, &[1.0, 2.0, 2.0])), [1, 2]);
}

#[test]
fn temperature_comes_before_the_filters() {
    let nucleus =
        |temperature| ids(&distribution(SamplingParams { temperature, top_p: 0.8, ..plain() }, &LOGITS));
    // At 0.3: 0.759373 for token 0 and 0.143427 for token 1.
    assert_eq!(nucleus(0.3), [0, 1]);
    assert_eq!(nucleus(1.0), [0, 1, 5, 7, 2]);
    assert_eq!(nucleus(2.0), [0, 1, 5, 7, 2, 6]);
    let min_p =
        |temperature| distribution(SamplingParams { temperature, min_p: 0.5, ..plain() }, &LOGITS).len();
    // A token is removed if (2 - logit) / temperature > ln 2.
    assert_eq!([min_p(0.3), min_p(1.0), min_p(2.0)], [1, 2, 5]);
}

#[test]
fn each_filter_sees_the_result_of_the_previous_one() {
    // Among the three tokens that top-k keeps, the first two hold 0.781440; among all
    // eight, they hold 0.491479.
    let both = SamplingParams { top_k: 3, top_p: 0.78, ..plain() };
    assert_eq!(ids(&distribution(both, &LOGITS)), [0, 1]);
    let three = SamplingParams { top_k: 3, top_p: 0.79, ..plain() };
    assert_eq!(ids(&distribution(three, &LOGITS)), [0, 1, 5]);
}

#[test]
fn penalties_and_bias_come_before_the_temperature() {
    let params = SamplingParams { temperature: 0.5, presence_penalty: 0.5, ..plain() };
    let mut sampler = Sampler::new(params, 2).unwrap();
    let candidates = sampler.candidates(&[1.0, 1.0], &[1]).unwrap();
    assert_eq!((candidates[1].token, candidates[1].logit), (1, 0.5));
    // (1 - 0.5) / 0.5 is a distance of 1.
    close(candidates[1].probability, 1.0 / (1.0 + 1_f64.exp()));
}

#[test]
fn temperature_0_takes_the_largest_after_penalties_and_bias() {
    let choose = |params, logits: &[f32], history: &[u32]| {
        Sampler::new(params, logits.len()).unwrap().sample(logits, history).unwrap()
    };
    assert_eq!(choose(SamplingParams::greedy(), &[1.0, 2.0, 2.0], &[]), 1);
    let penalised = SamplingParams { presence_penalty: 0.5, ..SamplingParams::greedy() };
    assert_eq!(choose(penalised, &[1.0, 2.0, 2.0], &[1]), 2);
    let banned = SamplingParams { logit_bias: [(1, f32::NEG_INFINITY)].into(), ..SamplingParams::greedy() };
    assert_eq!(choose(banned, &[1.0, 2.0, 2.0], &[]), 2);
    assert_eq!(choose(SamplingParams::greedy(), &[f32::NEG_INFINITY, -3e38], &[]), 1);
}

#[test]
fn the_draws_follow_the_distribution() {
    const DRAWS: usize = 100_000;
    // Chi-squared at probability 0.001 for 1 to 7 degrees of freedom. The seeds are
    // fixed, so the test always gives the same result.
    const CRITICAL: [f64; 7] = [10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322];
    let cases = [
        plain(),
        SamplingParams { temperature: 0.3, ..plain() },
        SamplingParams { temperature: 2.0, ..plain() },
        SamplingParams { top_k: 3, ..plain() },
        SamplingParams { top_p: 0.8, ..plain() },
        SamplingParams { min_p: 0.4, ..plain() },
    ];
    for seed in [1, 2, 0xdead_beef_0bad_cafe] {
        for params in &cases {
            let params = SamplingParams { seed: Some(seed), ..params.clone() };
            let expected = distribution(params.clone(), &LOGITS);
            let mut sampler = Sampler::new(params, LOGITS.len()).unwrap();
            let mut counts = [0_usize; LOGITS.len()];
            for _ in 0..DRAWS {
                counts[sampler.sample(&LOGITS, &[]).unwrap() as usize] += 1;
            }
            let chi_squared: f64 = expected
                .iter()
                .map(|&(token, p)| {
                    (counts[token as usize] as f64 - p * DRAWS as f64).powi(2) / (p * DRAWS as f64)
                })
                .sum();
            let drawn: usize = expected.iter().map(|d| counts[d.0 as usize]).sum();
            assert_eq!(drawn, DRAWS, "only survivors are drawn");
            let critical = CRITICAL[expected.len() - 2];
            assert!(chi_squared < critical, "seed {seed}: {chi_squared} of {critical}: {counts:?}");
        }
    }
}

fn draws(seed: Option<u64>, n: usize) -> (u64, Vec<u32>) {
    let mut sampler = Sampler::new(SamplingParams { seed, ..plain() }, LOGITS.len()).unwrap();
    (sampler.seed(), (0..n).map(|_| sampler.sample(&LOGITS, &[]).unwrap()).collect())
}

#[test]
fn a_seed_fixes_the_draws() {
    assert_eq!(draws(Some(5), 200), draws(Some(5), 200));
    assert_ne!(draws(Some(5), 200).1, draws(Some(6), 200).1);
    let (seed, first) = draws(None, 200);
    let (other_seed, _) = draws(None, 1);
    assert_ne!(seed, other_seed);
    assert!(seed < 1 << 53);
    assert_eq!(draws(Some(seed), 200).1, first);
}

#[test]
fn the_draws_of_a_seed_never_change() {
    // From a separate program that implements PCG32 seeding, ChaCha8 and the inverse
    // cumulative distribution by rising id from their definitions.
    assert_eq!(draws(Some(0), 16).1, [5, 1, 5, 0, 6, 2, 6, 7, 5, 0, 6, 5, 2, 1, 5, 4]);
}

#[test]
fn a_filter_that_keeps_all_changes_no_draw() {
    let logits: Vec<f32> = (0..500).map(|i| (i * 7919 % 500) as f32 / 50.0).collect();
    let draws = |params: SamplingParams| -> Vec<u32> {
        let mut sampler = Sampler::new(params, logits.len()).unwrap();
        (0..500).map(|_| sampler.sample(&logits, &[]).unwrap()).collect()
    };
    // Without a filter nothing is sorted.
    assert_eq!(draws(plain()), draws(SamplingParams { min_p: f32::MIN_POSITIVE, ..plain() }));
}

#[test]
fn a_generator_continues_where_another_sampler_stopped() {
    let all = draws(Some(9), 64).1;
    let mut sampler = Sampler::new(SamplingParams { seed: Some(9), ..plain() }, LOGITS.len()).unwrap();
    let start = sampler.generator();
    assert_eq!(start.draws, 0);
    for (i, &token) in all.iter().enumerate().take(40) {
        assert_eq!(sampler.sample(&LOGITS, &[]).unwrap(), token);
        assert_eq!(sampler.generator(), Generator { draws: i as u64 + 1, ..start });
    }
    for i in [50, 3, 63, 0, 33] {
        sampler.set_draws(i as u64);
        assert_eq!(sampler.generator().draws, i as u64);
        assert_eq!(sampler.sample(&LOGITS, &[]).unwrap(), all[i]);
    }
}

#[test]
fn an_error_consumes_no_random_number() {
    let mut sampler = Sampler::new(SamplingParams { seed: Some(5), ..plain() }, LOGITS.len()).unwrap();
    assert!(sampler.sample(&[f32::NAN; 8], &[]).is_err());
    let after: Vec<u32> = (0..200).map(|_| sampler.sample(&LOGITS, &[]).unwrap()).collect();
    assert_eq!(after, draws(Some(5), 200).1);
}

#[test]
fn extreme_temperatures_and_logits_stay_finite() {
    for temperature in [f32::from_bits(1), 1e-20, 1e20, f32::MAX] {
        let wide = [f32::MAX, f32::MIN, 0.0, f32::NEG_INFINITY];
        for top_p in [0.9, 1.0] {
            let found = distribution(SamplingParams { temperature, top_p, ..plain() }, &wide);
            close(found.iter().map(|d| d.1).sum(), 1.0);
            assert!(found.iter().all(|d| d.1 > 0.0 && d.0 != 3), "{found:?}");
            assert_eq!(found[0].0, 0);
        }
    }
}

#[test]
fn bad_logits_and_parameters_are_errors() {
    let sample = |params, logits: &[f32], history: &[u32]| {
        Sampler::new(params, 3).and_then(|mut s| s.sample(logits, history)).unwrap_err().to_string()
    };
    let inf = f32::INFINITY;
    for params in [SamplingParams::default(), SamplingParams::greedy()] {
        assert!(
            sample(params.clone(), &[0.0, f32::NAN, 0.0], &[])
                .contains("1 of 3 are NaN, the first at token 1")
        );
        assert!(sample(params.clone(), &[0.0, inf, 0.0], &[]).contains("+inf"));
        assert!(sample(params.clone(), &[-inf; 3], &[]).contains("all 3 are -inf"));
        assert_eq!(sample(params.clone(), &[0.0; 4], &[]), "logits: expected 3, one for each token, found 4");
        let penalised = SamplingParams { repetition_penalty: 1.3, ..params.clone() };
        assert!(sample(penalised, &[0.0; 3], &[0, 3]).contains("history: token 3"));
        let bans = (0..3).map(|t| (t, -inf)).collect();
        let message = sample(SamplingParams { logit_bias: bans, ..params.clone() }, &[0.0; 3], &[]);
        assert!(message.starts_with("logits after penalties and bias: all 3 are -inf"), "{message}");
        let overflow = SamplingParams { logit_bias: [(2, f32::MAX)].into(), ..params };
        assert!(sample(overflow, &[0.0, 0.0, f32::MAX], &[]).contains("+inf, the first at token 2"));
    }
    assert!(Sampler::new(SamplingParams { temperature: -1.0, ..plain() }, 3).is_err());
    assert!(Sampler::new(plain(), 0).unwrap().sample(&[], &[]).is_err());
}
