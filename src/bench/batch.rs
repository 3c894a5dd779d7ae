//! Decode rates of several sequences evaluated in the same steps.

use std::time::{Duration, Instant};

use super::host::peak_host_bytes;
use super::model::{ModelBench, ModelBenchProgress, ModelTest, nanoseconds, tokens};
use crate::engine::{BatchLogits, CancelFlag, Engine, Session};
use crate::error::Result;

/// Runs [`super::run_model_test`] for several sequences.
///
/// The sequences share no pages, like sequences of different users. Each reads its own
/// keys and values.
pub(super) fn run(
    engine: &Engine,
    test: ModelTest,
    repetitions: usize,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(ModelBenchProgress),
) -> Result<ModelBench> {
    let n = test.n_sequences;
    let mut source = tokens(engine.vocab_size());
    let mut sessions = Vec::with_capacity(n);
    for _ in 0..n {
        let mut session = engine.session();
        session.set_cancel(cancel.clone());
        // Prefill the full length once, so that the page pool grows before the timed
        // part.
        let whole: Vec<u32> = source.by_ref().take(test.n_depth + test.n_gen).collect();
        session.prefill(&whole)?;
        sessions.push(session);
    }
    let generated: Vec<u32> = source.take(test.n_gen * n).collect();
    let mut logits = BatchLogits::new();
    rewind(&mut sessions, test.n_depth);
    decode(engine, &mut sessions, &generated[..n], &mut logits)?;
    let mut times = Vec::with_capacity(repetitions);
    let before = engine.gpu().step_timings();
    for done in 0..repetitions {
        progress(ModelBenchProgress { done, total: repetitions });
        rewind(&mut sessions, test.n_depth);
        times.push(decode(engine, &mut sessions, &generated, &mut logits)?);
    }
    progress(ModelBenchProgress { done: repetitions, total: repetitions });
    Ok(ModelBench {
        test,
        samples_ns: times.into_iter().map(nanoseconds).collect(),
        first_token_ns: Vec::new(),
        warm_up_first_token_ns: None,
        host: engine.gpu().step_timings().since(before),
        peak_gpu_bytes: engine.gpu().ledger().peak_bytes(),
        peak_host_bytes: peak_host_bytes(),
    })
}

fn rewind(sessions: &mut [Session], n_depth: usize) {
    sessions.iter_mut().for_each(|session| session.truncate(n_depth));
}

/// Runs steps of one token per session until `generated` is used up. The logits of every
/// step are read back.
fn decode(
    engine: &Engine,
    sessions: &mut [Session],
    generated: &[u32],
    logits: &mut BatchLogits,
) -> Result<Duration> {
    let mut sessions: Vec<&mut Session> = sessions.iter_mut().collect();
    let start = Instant::now();
    for tokens in generated.chunks(sessions.len()) {
        engine.step(&mut sessions, tokens, logits)?;
    }
    Ok(start.elapsed())
}
