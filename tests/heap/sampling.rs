//! The sampler allocates nothing after construction.

use wgpt::{Sampler, SamplingParams};

use crate::{alone, thread_allocations};

#[test]
fn sampling_allocates_nothing_after_construction() {
    let _alone = alone();
    const VOCAB_SIZE: usize = 50257;
    // Rows from peaked to flat make the nucleus grow and shrink.
    let rows: Vec<Vec<f32>> = [20.0, 5.0, 1.0, 0.01]
        .iter()
        .map(|scale| {
            (0..VOCAB_SIZE).map(|i| ((i * 7919) % VOCAB_SIZE) as f32 / VOCAB_SIZE as f32 * scale).collect()
        })
        .collect();
    let history: Vec<u32> = (0..2000).map(|i| i * 25).collect();
    let on = SamplingParams::default();
    let penalised = SamplingParams { repetition_penalty: 1.2, logit_bias: [(3, 1.0)].into(), ..on.clone() };
    for params in [
        SamplingParams::greedy(),
        on.clone(),
        penalised,
        SamplingParams { top_k: 0, ..on.clone() },
        SamplingParams { top_k: 0, top_p: 1.0, ..on.clone() },
        SamplingParams { top_k: 30_000, min_p: 0.01, ..on },
    ] {
        let mut sampler = Sampler::new(params.clone(), VOCAB_SIZE).unwrap();
        let before = thread_allocations();
        assert!(before > 0, "the counter works");
        for row in &rows {
            sampler.sample(row, &history).unwrap();
        }
        assert_eq!(thread_allocations() - before, 0, "{params:?}");
    }
}
