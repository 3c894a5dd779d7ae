//! The costs of decoding besides arithmetic: no GPU object may be created per token.

use wgpt::{BatchLogits, Engine, Error, GenerateOptions, GpuOptions, Sampler, SamplingParams, Session};

use crate::{allocated_bytes, alone, freed_bytes};

/// Returns, for each of `n` tokens, the heap bytes allocated and the bytes held
/// afterwards.
fn decode(session: &mut Session, sampler: &mut Option<Sampler>, n: usize) -> Vec<(u64, u64)> {
    let mut token = 5;
    let mut costs = Vec::with_capacity(n);
    for _ in 0..n {
        let before = allocated_bytes();
        token = match sampler {
            Some(sampler) => {
                let logits = session.advance(&[token]).unwrap();
                sampler.sample(logits, &[]).unwrap()
            }
            None => session.advance_greedy(&[token]).unwrap(),
        };
        let allocated = allocated_bytes();
        costs.push((allocated - before, allocated - freed_bytes()));
    }
    costs
}

#[test]
fn decoding_creates_no_objects_per_token() -> Result<(), Error> {
    check_strategies(1)
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn decoding_creates_no_objects_per_token_with_any_strategy() -> Result<(), Error> {
    check_strategies(usize::MAX)
}

/// Checks the first `n` strategies of the adapter.
fn check_strategies(n: usize) -> Result<(), Error> {
    let _alone = alone();
    let device = std::env::var("WGPT_DEVICE").ok();
    let open = |strategy| {
        let gpu = GpuOptions { device: device.clone(), strategy, ..GpuOptions::default() };
        Engine::builder().gpu(gpu).build()
    };
    for strategy in open(None)?.gpu().strategies().into_iter().take(n) {
        let engine = open(Some(strategy))?;
        for sampled in [false, true] {
            check(&engine, sampled)?;
        }
        check_batches(&engine)?;
        check_drafts(&engine)?;
    }
    Ok(())
}

/// Heap bytes that a token allocates, and that are held afterwards.
#[derive(Debug)]
struct Cost {
    allocated: u64,
    held: u64,
}

impl Cost {
    /// Returns the minimum over some tokens. Whether wgpu finds an encoder to reuse
    /// depends on when the last one was returned, which changes the count by tens of kB.
    fn least(tokens: &[(u64, u64)]) -> Cost {
        let least = |value: fn(&(u64, u64)) -> u64| tokens.iter().map(value).min().unwrap_or(0);
        Cost { allocated: least(|token| token.0), held: least(|token| token.1) }
    }
}

fn check(engine: &Engine, sampled: bool) -> Result<(), Error> {
    let case = format!("{:?}, sampled: {sampled}", engine.gpu().strategy());
    let mut sampler = match sampled {
        true => Some(Sampler::new(SamplingParams::default(), engine.vocab_size())?),
        false => None,
    };
    // Growth with the position shows in every run, noise of a busy machine only in some.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut session = engine.session();
        session.prefill(&[0, 1, 2, 3])?;
        decode(&mut session, &mut sampler, 20);
        let before = engine.gpu().counters();
        let costs = decode(&mut session, &mut sampler, 400);
        // No buffer, bind group or pipeline was created, and no write_buffer was called.
        assert_eq!(before, engine.gpu().counters(), "{case}");
        // wgpu allocates for each encoder, dispatch and submit. This must not grow with
        // the position, and must be freed. Both ranges are beyond position 256, where
        // split attention has its merge, one more dispatch per layer. Only the page
        // table's u32 entries may differ.
        let (early, late) = (Cost::least(&costs[236..316]), Cost::least(&costs[316..]));
        assert!(early.allocated > 0, "{case}: nothing was counted");
        if late.allocated <= early.allocated + 256 && late.held <= early.held + 4096 {
            println!("{case}: {late:?}");
            return Ok(());
        }
        seen.push((early, late));
    }
    panic!("{case}: the heap grows with the position: {seen:?}");
}

/// Returns the heap bytes of each of `n` steps of some sessions.
fn steps(
    engine: &Engine,
    sessions: &mut [Session],
    greedy: bool,
    n: usize,
) -> Result<Vec<(u64, u64)>, Error> {
    let mut sessions: Vec<&mut Session> = sessions.iter_mut().collect();
    let (mut logits, mut next) = (BatchLogits::new(), Vec::new());
    let tokens = vec![5; sessions.len()];
    let mut costs = Vec::with_capacity(n);
    for step in 0..n {
        let before = allocated_bytes();
        if greedy {
            engine.step_greedy(&mut sessions, &tokens, &mut next)?;
        } else {
            engine.step(&mut sessions, &tokens, &mut logits)?;
        }
        let allocated = allocated_bytes();
        // The first step allocates space for the rows.
        if step > 0 {
            costs.push((allocated - before, allocated - freed_bytes()));
        }
    }
    Ok(costs)
}

fn check_batches(engine: &Engine) -> Result<(), Error> {
    for n_sessions in [3, 19] {
        let case = format!("{:?}, {n_sessions} sessions", engine.gpu().strategy());
        let mut sessions: Vec<Session> = (0..n_sessions).map(|_| engine.session()).collect();
        // The first run goes to the last position, so the page pool has grown.
        sessions.iter_mut().try_for_each(|session| session.prefill(&[1; 100]))?;
        sessions.iter_mut().enumerate().for_each(|(i, session)| session.truncate(i));
        for greedy in [false, true] {
            steps(engine, &mut sessions, greedy, 4)?;
        }
        let before = engine.gpu().counters();
        for greedy in [true, false] {
            let mut seen = Vec::new();
            // A busy machine adds some hundred bytes to several runs in a row.
            let grows = (0..8).all(|_| {
                let costs = steps(engine, &mut sessions, greedy, 20).unwrap();
                for (i, session) in sessions.iter_mut().enumerate() {
                    session.truncate(i + 8);
                }
                let (early, late) = (Cost::least(&costs[..9]), Cost::least(&costs[9..]));
                assert!(early.allocated > 0, "{case}: nothing was counted");
                let grows = late.allocated > early.allocated + 256 || late.held > early.held + 4096;
                seen.push((early, late));
                grows
            });
            assert!(!grows, "{case}, greedy {greedy}: the heap grows: {seen:?}");
        }
        // No buffer, bind group or pipeline was created, and no write_buffer was called.
        assert_eq!(before, engine.gpu().counters(), "{case}");
    }
    Ok(())
}

/// Once every batch size has been recorded, drafts create nothing on the device.
fn check_drafts(engine: &Engine) -> Result<(), Error> {
    let prompt: Vec<u32> = [1, 2, 3, 4, 5].repeat(8);
    let generate = |draft_len: usize| -> Result<usize, Error> {
        let options = GenerateOptions {
            sampling: SamplingParams::greedy(),
            max_new_tokens: Some(40),
            prompt_lookup: Some(draft_len),
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let mut generation = engine.generate_tokens(&prompt, options)?;
        generation.by_ref().try_for_each(|piece| piece.map(|_| ()))?;
        Ok(generation.timings().lookup.map_or(0, |stats| stats.accepted))
    };
    for draft_len in [1, 3, 7, 15] {
        generate(draft_len)?;
    }
    let before = engine.gpu().counters();
    let mut accepted = 0;
    for draft_len in [1, 3, 7, 15] {
        accepted += generate(draft_len)?;
    }
    assert!(accepted > 0);
    assert_eq!(before, engine.gpu().counters(), "{:?}, drafts", engine.gpu().strategy());
    Ok(())
}
