//! The memory of sessions: weights and prefixes are shared, and all of it is returned.

use std::sync::Arc;

use wgpt::internals::kernels::PAGE_SIZE;
use wgpt::{Gpu, MemoryGroup, Session};

use crate::support::files;
use crate::{deterministic, load_tiny, tokens};

#[test]
fn sessions_share_weights_and_prefix_pages() {
    let gpu = Arc::new(Gpu::open(&files::gpu()).unwrap());
    let engine = load_tiny(&gpu, &deterministic());
    let ledger = gpu.ledger();
    let at_first = MemoryGroup::ALL.map(|group| ledger.bytes(group));
    let mut first = engine.session();
    first.prefill(&tokens(3 * PAGE_SIZE)).unwrap();
    // 50 forks, each with one separate token, share three pages and have one more page
    // each.
    let mut forks: Vec<Session> = (0..50).map(|_| first.fork()).collect();
    assert_eq!(engine.kv_pages().0, 3);
    for (i, fork) in forks.iter_mut().enumerate() {
        fork.prefill(&[i as u32]).unwrap();
    }
    assert_eq!(engine.kv_pages().0, 3 + 50);
    for (group, before) in MemoryGroup::ALL.into_iter().zip(at_first) {
        if group != MemoryGroup::KvCache {
            assert_eq!(ledger.bytes(group), before, "{}", group.name());
        }
    }
    // The first session is dropped; its pages stay with the others.
    drop(first);
    assert_eq!(engine.kv_pages().0, 3 + 50);
    for n in (0..50).rev() {
        drop(forks.pop());
        assert_eq!(engine.kv_pages().0, if n == 0 { 0 } else { 3 + n });
    }
    assert_eq!(MemoryGroup::ALL.map(|group| ledger.bytes(group)), at_first);
}

#[test]
fn sessions_outlive_their_engine_on_any_thread() {
    let gpu = Arc::new(Gpu::open(&files::gpu()).unwrap());
    let engine = load_tiny(&gpu, &deterministic());
    let sessions: Vec<Session> = (0..8)
        .map(|i| {
            let mut session = engine.session();
            session.prefill(&tokens(100 + i)).unwrap();
            session
        })
        .collect();
    drop(engine);
    let threads: Vec<_> = sessions
        .into_iter()
        .map(|mut session| {
            std::thread::spawn(move || {
                session.prefill(&[1]).unwrap();
                drop(session);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(gpu.ledger().total_bytes(), 0);
}
