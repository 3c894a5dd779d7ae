//! Work in bounded pieces gives the same results for every frame budget, every
//! interleaving of sessions, and every place where a piece ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use wgpt::internals::gpu::{Call, Fault};
use wgpt::{
    Budget, Engine, Error, FinishReason, GenerateOptions, Generation, GenerationStep, Gpu, GpuOptions,
    ModelFiles, ModelOptions, SamplingParams, Session, StepReport,
};

use crate::support::open_gpu;
use crate::{load_tiny, tiny_files, tokens};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(open_gpu(GpuOptions::default())));

/// Long enough that only frame budgets divide the work.
const FOREVER: Duration = Duration::from_secs(1000);

/// A frame budget that fits one dispatch at a time.
const LEAST: Budget = Budget::new(Duration::from_nanos(1));

fn load(options: &ModelOptions) -> Engine {
    load_tiny(&GPU, options)
}

/// 128 positions; deterministic, so equal sequences give equal bits. Overflow detection is
/// off, because it waits after each chunk and would add submits to the counts.
fn options() -> ModelOptions {
    let detect_overflow = false;
    ModelOptions { deterministic: true, max_submit: FOREVER, detect_overflow, ..ModelOptions::default() }
}

fn advance(engine: &Engine, tokens: &[u32]) -> Vec<f32> {
    engine.session().advance(tokens).unwrap().to_vec()
}

/// Steps until the session is done.
fn finish(session: &mut Session, budget: Budget) -> Vec<StepReport> {
    let mut reports = Vec::new();
    loop {
        let report = session.step(budget).unwrap();
        assert!(report.done || report.submits > 0, "a step without progress");
        assert_eq!((report.done, report.remaining), (report.remaining == 0, session.remaining()));
        reports.push(report);
        if session.remaining() == 0 {
            return reports;
        }
    }
}

/// Returns the dispatches and submits of the device during `run`.
fn counted<T>(gpu: &Gpu, run: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = gpu.step_timings();
    let value = run();
    let spent = gpu.step_timings().since(before);
    (value, spent.dispatches, spent.submits)
}

#[test]
fn every_budget_gives_the_same_bits_as_advance() {
    for prefill_chunk in [256, 16] {
        let engine = load(&ModelOptions { prefill_chunk, ..options() });
        for n in [1, 2, 40, 127] {
            let all = tokens(n + 1);
            let expected = [advance(&engine, &all[..n]), advance(&engine, &all)];
            for budget in
                [LEAST, Budget::new(Duration::from_micros(200)), Budget::millis(4), Budget::new(FOREVER)]
            {
                let case = format!("chunks of {prefill_chunk}, {n} tokens, {budget:?}");
                let mut session = engine.session();
                assert_eq!(session.logits(), None);
                // In two feeds; the second one comes while the first is in progress.
                session.feed(&all[..n.div_ceil(2)]).unwrap();
                let first = session.step(budget).unwrap();
                assert!(first.submits > 0, "{case}");
                if n > 1 {
                    session.feed(&all[n.div_ceil(2)..n]).unwrap();
                    assert_eq!(session.logits(), None, "{case}");
                }
                finish(&mut session, budget);
                assert_eq!(session.tokens(), &all[..n], "{case}");
                assert_eq!(session.logits().unwrap(), expected[0], "{case}");
                // Decoding continues from there, with and without a budget.
                session.feed(&all[n..]).unwrap();
                finish(&mut session, budget);
                assert_eq!(session.logits().unwrap(), expected[1], "{case}");
                session.truncate(n);
                assert_eq!(session.logits(), None, "{case}");
                assert_eq!(session.advance(&all[n..]).unwrap(), expected[1], "{case}");
                assert_eq!(session.logits().unwrap(), expected[1], "{case}");
            }
        }
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn nondeterministic_results_are_within_the_batch_tolerance() {
    let engine = load(&ModelOptions { deterministic: false, ..options() });
    let all = tokens(60);
    let expected = advance(&engine, &all);
    for budget in [LEAST, Budget::millis(4)] {
        let mut session = engine.session();
        session.feed(&all).unwrap();
        finish(&mut session, budget);
        let furthest =
            session.logits().unwrap().iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The largest change of a logit that an f16 cache may cause (tests/engine/batch.rs).
        assert!(furthest <= 5e-3, "{budget:?}: {furthest}");
    }
}

#[test]
fn a_budget_divides_a_pass_at_every_dispatch_or_nowhere() {
    // A separate device, because all users of a device share its counters.
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let engine = load_tiny(&gpu, &options());
    let run = |budget: Budget, n: usize| {
        let mut session = engine.session();
        session.feed(&tokens(n)).unwrap();
        counted(&gpu, || finish(&mut session, budget))
    };
    let (_, whole, submits) = counted(&gpu, || advance(&engine, &tokens(1)));
    assert_eq!(submits, 1, "without a budget a short pass is one submit");
    // Before the counts: the first step creates the objects that time pieces.
    run(LEAST, 1);
    let (reports, dispatches, submits) = run(LEAST, 1);
    assert_eq!(dispatches, whole);
    // Each dispatch takes a separate step, and the logits take one more submit.
    assert_eq!((reports.len() as u64, submits), (whole, whole + 1));
    assert_eq!(reports.iter().map(|report| report.submits as u64).sum::<u64>(), submits);
    // Every dispatch took longer than a nanosecond, and is named.
    for report in &reports {
        let [overrun] = &report.overruns[..] else { panic!("{report:?}") };
        assert!(!overrun.label.is_empty() && overrun.dispatches == 1, "{overrun:?}");
        assert!(overrun.duration > LEAST.duration() && overrun.predicted.is_some(), "{overrun:?}");
    }
    let (reports, dispatches, submits) = run(Budget::new(FOREVER), 1);
    assert_eq!((reports.len(), dispatches, submits), (1, whole, 2));
    assert!(reports[0].overruns.is_empty());
    assert!(reports[0].gpu_time <= reports[0].time);
    // The measurements at load time cover chunks of any length, so no dispatch runs
    // separately because its time is unknown.
    let (reports, _, submits) = run(Budget::new(FOREVER), 100);
    assert_eq!((reports.len(), submits), (1, 2));
}

#[test]
fn no_submit_is_longer_than_the_limit() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let all = tokens(100);
    let whole = load(&options());
    let least = Duration::from_nanos(1);
    let engine = load_tiny(&gpu, &ModelOptions { max_submit: least, ..options() });
    let (before, start) = (gpu.step_timings(), std::time::Instant::now());
    let (logits, dispatches, submits) = counted(&gpu, || advance(&engine, &all));
    // The parts of the host's time do not overlap, even when encoders follow one another.
    let (host, all_time) = (gpu.step_timings().since(before), start.elapsed());
    let parts = host.encode + host.submit + host.wait + host.read;
    assert!(parts <= all_time, "{host:?} within {all_time:?}");
    assert_eq!(logits, advance(&whole, &all));
    assert!(submits >= dispatches, "{submits} submits of {dispatches} dispatches");
    // A frame budget does not lift the limit of `max_submit`.
    let mut session = engine.session();
    session.feed(&all[..2]).unwrap();
    let (reports, dispatches, submits) = counted(&gpu, || finish(&mut session, Budget::new(FOREVER)));
    assert_eq!((reports.len(), submits), (1, dispatches + 1));
    // The limit also applies to batches, scores and greedy steps.
    let mut sessions = [engine.session(), engine.session(), engine.session()];
    let mut tested: Vec<&mut Session> = sessions.iter_mut().collect();
    let mut other = [whole.session(), whole.session(), whole.session()];
    let mut expected: Vec<&mut Session> = other.iter_mut().collect();
    let (mut next, mut expected_next) = (Vec::new(), Vec::new());
    engine.step_greedy(&mut tested, &all[..3], &mut next).unwrap();
    whole.step_greedy(&mut expected, &all[..3], &mut expected_next).unwrap();
    assert_eq!(next, expected_next);
    assert_eq!(tested[0].score(&all[..40]).unwrap(), expected[0].score(&all[..40]).unwrap());
    let none = tiny_files();
    let zero = ModelOptions { max_submit: Duration::ZERO, ..ModelOptions::default() };
    let refused = Engine::load(none, gpu, &zero, &mut |_| std::ops::ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Input(message)) if message.contains("max_submit")));
}

#[test]
fn sessions_that_take_turns_all_advance() {
    let engine = load(&options());
    let all = tokens(128);
    let texts = [&all[..40], &all[20..100], &all[5..6]];
    let expected = texts.map(|text| advance(&engine, text));
    for budget in [LEAST, Budget::new(Duration::from_micros(300))] {
        let mut sessions = texts.map(|text| {
            let mut session = engine.session();
            session.feed(text).unwrap();
            session
        });
        let mut turns = 0;
        while sessions.iter().any(|session| session.remaining() > 0) {
            for session in &mut sessions {
                session.step(budget).unwrap();
            }
            turns += 1;
            assert!(turns < 10_000);
        }
        for (session, expected) in sessions.iter().zip(&expected) {
            assert_eq!(session.logits().unwrap(), expected);
        }
    }
}

#[test]
fn unbudgeted_work_in_between_loses_nothing() {
    let engine = load(&options());
    let all = tokens(60);
    let expected = advance(&engine, &all);
    for steps in [1, 5, 20] {
        let mut session = engine.session();
        session.feed(&all).unwrap();
        for _ in 0..steps {
            session.step(LEAST).unwrap();
        }
        // The unfinished pass is completed first, and its results are kept for their
        // session.
        let mut other = engine.session();
        let text = tokens(31);
        assert_eq!(other.advance(&text).unwrap(), advance(&engine, &text));
        other.advance_greedy(&[7]).unwrap();
        engine.step_greedy(&mut [&mut other], &[3], &mut Vec::new()).unwrap();
        other.score(&text[..5]).unwrap();
        // A fork has the tokens that the session holds, without those that were only fed.
        let mut twin = session.fork();
        assert_eq!((twin.tokens(), twin.remaining()), (session.tokens(), 0));
        assert_eq!(twin.advance(&all[session.len()..]).unwrap(), expected);
        let report = session.step(Budget::new(FOREVER)).unwrap();
        assert!(report.done);
        assert_eq!(session.logits().unwrap(), expected);
    }
}

#[test]
fn a_fork_during_a_pass_shares_no_page_of_it() {
    let engine = load(&options());
    let all = tokens(60);
    let expected = advance(&engine, &all);
    let mut session = engine.session();
    session.prefill(&all[..20]).unwrap();
    session.feed(&all[20..]).unwrap();
    session.step(LEAST).unwrap();
    let mut twin = session.fork();
    // The twin writes into the same partly filled page while the pass is in progress.
    twin.feed(&tokens(9)).unwrap();
    twin.step(LEAST).unwrap();
    finish(&mut session, Budget::millis(4));
    finish(&mut twin, LEAST);
    assert_eq!(session.logits().unwrap(), expected);
    assert_eq!(twin.logits().unwrap(), advance(&engine, &[&all[..20], &tokens(9)].concat()));
    drop((session, twin));
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn sessions_may_end_during_a_pass() {
    let engine = load(&ModelOptions { prefill_chunk: 16, ..options() });
    let all = tokens(50);
    for ends in [0, 1, 2] {
        let mut session = engine.session();
        session.feed(&all).unwrap();
        while session.len() < 16 {
            session.step(LEAST).unwrap();
        }
        session.step(LEAST).unwrap();
        assert_eq!((session.len(), session.remaining()), (16, 34));
        match ends {
            0 => {}
            1 => {
                // Only truncation or another step may follow.
                assert!(
                    matches!(session.advance(&[1]), Err(Error::Input(message)) if message.contains("34 tokens"))
                );
                session.truncate(16);
                assert_eq!((session.len(), session.remaining()), (16, 0));
                assert_eq!(session.advance(&all[16..]).unwrap(), advance(&engine, &all));
            }
            _ => {
                let flag = Arc::new(AtomicBool::new(true));
                session.set_cancel(Arc::clone(&flag));
                assert!(matches!(session.step(LEAST), Err(Error::Cancelled)));
                assert_eq!((session.len(), session.remaining()), (16, 0), "completed chunks stay");
                flag.store(false, Ordering::Relaxed);
                session.feed(&all[16..]).unwrap();
                finish(&mut session, Budget::millis(1));
                assert_eq!(session.logits().unwrap(), advance(&engine, &all));
            }
        }
        drop(session);
        assert_eq!(advance(&engine, &all), advance(&engine, &all));
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn a_fault_during_a_pass_keeps_completed_chunks() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let faults = gpu.faults();
    let engine = load_tiny(&gpu, &ModelOptions { prefill_chunk: 16, ..options() });
    let all = tokens(40);
    let expected = advance(&engine, &all);
    for (call, after) in [(Call::Submit, 0), (Call::Submit, 3), (Call::Wait, 2), (Call::Map, 1)] {
        let case = format!("{call:?} after {after}");
        let mut session = engine.session();
        session.prefill(&all[..16]).unwrap();
        session.feed(&all[16..]).unwrap();
        faults.inject(call, after, Fault::Validation);
        let error = loop {
            match session.step(LEAST) {
                Ok(report) => assert!(!report.done, "{case}: nothing failed"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Gpu { .. }), "{case}: {error}");
        assert_eq!(faults.clear(), 0, "{case}");
        assert_eq!(session.remaining(), 0, "{case}: the other fed tokens are dropped");
        assert_eq!(engine.kv_pages().0, session.len().div_ceil(16), "{case}");
        // The session continues from its current length.
        let rest = all[session.len()..].to_vec();
        session.feed(&rest).unwrap();
        finish(&mut session, Budget::millis(4));
        assert_eq!(session.logits().unwrap(), expected, "{case}");
    }
    // If a fault occurs while another session completes the pass, only the pass's owner
    // gets the error.
    let mut session = engine.session();
    session.feed(&all[..1]).unwrap();
    session.step(LEAST).unwrap();
    faults.inject(Call::Submit, 0, Fault::Validation);
    let mut other = engine.session();
    other.feed(&all).unwrap();
    while other.remaining() > 0 {
        other.step(Budget::millis(4)).unwrap();
    }
    assert_eq!(other.logits().unwrap(), expected);
    assert!(matches!(session.step(LEAST), Err(Error::Gpu { .. })));
    assert_eq!(session.advance(&all).unwrap(), expected);
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let engine = load(&options());
    let mut session = engine.session();
    session.feed(&tokens(100)).unwrap();
    for wrong in [vec![], vec![1_000_000], tokens(29)] {
        assert!(matches!(session.feed(&wrong), Err(Error::Input(_))), "{} tokens", wrong.len());
    }
    assert_eq!(session.remaining(), 100);
    session.feed(&tokens(28)).unwrap();
    finish(&mut session, Budget::millis(4));
    assert_eq!(session.len(), 128);
    let report = session.step(LEAST).unwrap();
    assert_eq!((report.done, report.submits), (true, 0), "nothing is left to run");
}

#[test]
fn a_sliced_head_gives_the_same_bits() {
    let all = tokens(70);
    for deterministic in [true, false] {
        let whole = load(&ModelOptions { deterministic, ..options() });
        // The head is sliced if its matrix takes longer than half of `max_submit`.
        let least = Duration::from_nanos(1);
        let gpu = Arc::new(open_gpu(GpuOptions::default()));
        let sliced = load_tiny(&gpu, &ModelOptions { deterministic, max_submit: least, ..options() });
        let decode = |engine: &Engine| {
            let mut session = engine.session();
            // One token at a time, so the chunks of both engines are the same.
            let rows: Vec<Vec<f32>> =
                all.iter().map(|&token| session.advance(&[token]).unwrap().to_vec()).collect();
            rows
        };
        let (rows, dispatches, _) = counted(&gpu, || decode(&sliced));
        assert_eq!(rows, decode(&whole), "deterministic {deterministic}");
        let plain = Arc::new(open_gpu(GpuOptions::default()));
        let engine = load_tiny(&plain, &ModelOptions { deterministic, ..options() });
        let (_, fewer, _) = counted(&plain, || decode(&engine));
        assert!(dispatches > fewer, "{dispatches} dispatches, {fewer} of whole matrices");
    }
}

/// Runs a generation in steps; returns its tokens, its text and its end.
fn run(generation: &mut Generation, budget: Budget) -> (Vec<u32>, String, Option<FinishReason>) {
    let mut text = String::new();
    loop {
        match generation.step(budget).unwrap() {
            GenerationStep::Working(report) => assert!(!report.done && report.submits > 0),
            GenerationStep::Piece(piece) => text.push_str(&piece.text),
            GenerationStep::Ended => break,
        }
    }
    assert!(matches!(generation.step(budget).unwrap(), GenerationStep::Ended));
    (generation.tokens().to_vec(), text, generation.finish_reason())
}

#[test]
fn generations_in_steps_equal_those_of_the_iterator() {
    let demo = |steps_ahead| {
        let options = ModelOptions { steps_ahead: Some(steps_ahead), ..options() };
        let files = ModelFiles::demo().unwrap();
        Engine::load(files, Arc::clone(&GPU), &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
    };
    let engines = [demo(0), demo(4)];
    let greedy = GenerateOptions { sampling: SamplingParams::greedy(), ..GenerateOptions::default() };
    let cases = [
        GenerateOptions { max_new_tokens: Some(20), ..greedy.clone() },
        GenerateOptions { max_new_tokens: Some(20), prompt_lookup: Some(3), ..greedy },
        GenerateOptions {
            sampling: SamplingParams { seed: Some(5), ..SamplingParams::default() },
            max_new_tokens: Some(20),
            ..GenerateOptions::default()
        },
    ];
    for (options, engine) in
        cases.iter().flat_map(|options| engines.iter().map(move |engine| (options, engine)))
    {
        let generate = || engine.generate("Once upon a time there was", options.clone()).unwrap();
        let mut plain = generate();
        let text: String = plain.by_ref().map(|piece| piece.unwrap().text).collect();
        let expected = (plain.tokens().to_vec(), text, plain.finish_reason());
        for budget in [Budget::new(Duration::from_micros(100)), Budget::new(FOREVER)] {
            assert_eq!(run(&mut generate(), budget), expected);
        }
        // Alternates iterator calls and steps; one change happens in the middle of a
        // pass.
        let mut mixed = generate();
        let mut text = String::new();
        for _ in 0..3 {
            text.push_str(&mixed.next().unwrap().unwrap().text);
        }
        for _ in 0..4 {
            if let GenerationStep::Piece(piece) = mixed.step(Budget::new(Duration::from_micros(100))).unwrap()
            {
                text.push_str(&piece.text);
            }
        }
        text.extend(mixed.by_ref().map(|piece| piece.unwrap().text));
        assert_eq!((mixed.tokens().to_vec(), text, mixed.finish_reason()), expected);
    }
}

#[test]
fn a_raised_flag_ends_a_generation_between_submits() {
    let engine = load(&options());
    let flag = Arc::new(AtomicBool::new(false));
    let options = GenerateOptions { cancel: Some(Arc::clone(&flag)), ..GenerateOptions::default() };
    let mut generation = engine.generate_tokens(&tokens(60), options).unwrap();
    assert!(matches!(generation.step(LEAST).unwrap(), GenerationStep::Working(_)));
    flag.store(true, Ordering::Relaxed);
    let rest = run(&mut generation, LEAST);
    assert_eq!((rest.0.len(), rest.2), (0, Some(FinishReason::Cancelled)));
    drop(generation);
    assert_eq!(engine.kv_pages().0, 0);
}
