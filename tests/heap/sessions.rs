//! Sessions leave no memory, and their files are never held whole.

use std::ops::ControlFlow;
use std::sync::Arc;

use wgpt::internals::model::random;
use wgpt::{DType, Engine, Gpu, GpuOptions, MemoryGroup, ModelFiles, ModelOptions, Session};

use crate::support::files::golden;
use crate::support::open_gpu;
use crate::{alone, live_bytes, peak_bytes};

/// gpt2-tiny, 128 positions, deterministic: equal sequences give equal bits.
fn engine(gpu: &Arc<Gpu>) -> Engine {
    let files = ModelFiles::open(&golden("gpt2-tiny")).unwrap();
    let options = ModelOptions { deterministic: true, ..ModelOptions::default() };
    Engine::load(files, Arc::clone(gpu), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % 1000).collect()
}

/// A generator of small numbers, the same each time.
struct Random(u32);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n
    }
}

/// Creates `n_sessions` by opening and forking; advances, rewinds and drops them in
/// random order, some on other threads. Returns the largest number of sessions at a time.
fn churn(engine: &Engine, n_sessions: usize, seed: u32) -> usize {
    let mut random = Random(seed);
    let mut sessions: Vec<Session> = Vec::new();
    let (mut created, mut most) = (0, 0);
    while created < n_sessions || !sessions.is_empty() {
        let action = random.below(8);
        if created < n_sessions && (sessions.is_empty() || (action < 3 && sessions.len() < 40)) {
            let forked = (!sessions.is_empty() && action > 0).then(|| random.below(sessions.len()));
            sessions.push(forked.map_or_else(|| engine.session(), |i| sessions[i].fork()));
            created += 1;
            most = most.max(sessions.len());
            continue;
        }
        let i = random.below(sessions.len());
        match action {
            3 | 4 => drop(sessions.swap_remove(i)),
            5 => {
                let session = sessions.swap_remove(i);
                std::thread::spawn(move || drop(session)).join().unwrap();
            }
            6 => {
                let len = random.below(sessions[i].len() + 1);
                sessions[i].truncate(len);
            }
            _ => {
                let n = random.below(40) + 1;
                if sessions[i].len() + n > engine.n_ctx() {
                    sessions[i].truncate(random.below(100));
                } else {
                    sessions[i].prefill(&tokens(n)).unwrap();
                }
            }
        }
    }
    most
}

#[test]
fn a_thousand_sessions_leave_no_memory() {
    let _alone = alone();
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let engine = engine(&gpu);
    let ledger = gpu.ledger();
    let state = || (MemoryGroup::ALL.map(|group| ledger.bytes(group)), engine.kv_pages());
    let logits = || engine.session().advance(&tokens(50)).unwrap().to_vec();
    let (at_first, expected) = (state(), logits());
    // wgpu keeps tables that grow with their first users.
    churn(&engine, 100, 1);
    gpu.flush().unwrap();
    let heap = live_bytes();
    let most = churn(&engine, 1000, 12345);
    gpu.flush().unwrap();
    assert!(most >= 20, "only {most} sessions at a time");
    assert_eq!(state(), at_first);
    let grown = live_bytes().saturating_sub(heap);
    println!("the heap grew by {grown} bytes over a thousand sessions");
    // A leaked session would be 128 tokens and a row of logits, over 4 KB; a thousand of
    // them would be megabytes.
    assert!(grown < 64 << 10, "the heap grew by {grown} bytes");
    // Every page still works as before.
    assert_eq!(logits(), expected);
    drop(engine);
    assert_eq!(ledger.total_bytes(), 0);
}

#[test]
fn saving_and_restoring_take_a_few_mib() {
    let _alone = alone();
    // Keys and values of 1024 positions take 32 MiB.
    let shape = "n_layer=8,n_embd=512,n_head=8,n_inner=64,vocab_size=100,n_positions=1024";
    let files = ModelFiles::random(random::shape(shape).unwrap(), 1).unwrap();
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let options = ModelOptions { kv_dtype: DType::F32, n_ctx: Some(1024), ..ModelOptions::default() };
    let engine = Engine::load(files, gpu, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("session");
    let mut session = engine.session();
    session.prefill(&tokens(1000).iter().map(|token| token % 100).collect::<Vec<_>>()).unwrap();
    // The first save reads the weights, in pieces.
    session.save(&path).unwrap();
    let file_bytes = std::fs::metadata(&path).unwrap().len() as usize;
    assert!(file_bytes > 31 << 20, "{file_bytes}");
    let ((), saving) = peak_bytes(|| session.save(&path).unwrap());
    let (restored, restoring) = peak_bytes(|| engine.restore(&path).unwrap());
    assert_eq!(restored.tokens(), session.tokens());
    println!("saving {file_bytes} bytes held {saving}, restoring {restoring}");
    assert!(saving < 6 << 20 && restoring < 6 << 20, "{saving}, {restoring}");
    // A wrong length is not trusted, let alone allocated.
    let mut bytes = std::fs::read(&path).unwrap();
    for at in [8, 12, 16, 40, 400] {
        bytes[at..at + 4].fill(255);
        std::fs::write(&path, &bytes).unwrap();
        let (result, peak) = peak_bytes(|| engine.restore(&path).map(drop));
        assert!(result.is_err() && peak < 64 << 10, "{at}: {peak}");
        bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 0, 16, 0, 0]);
    }
}
