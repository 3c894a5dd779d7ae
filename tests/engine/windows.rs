//! Models with a window in all or some layers: pages that fall out of the window are
//! freed, and nothing that a session can do depends on them.

use std::sync::{Arc, LazyLock};

use wgpt::internals::kernels::PAGE_SIZE;
use wgpt::{
    Engine, GenerateOptions, Gpu, GpuOptions, MemoryGroup, ModelFiles, ModelOptions, SamplingParams, Session,
};

use crate::{load_files, support};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(support::open_gpu(GpuOptions::default())));

/// A golden model with windows, with a longer context.
struct Windowed {
    golden: &'static str,
    window: usize,
    /// The number of layers with the window, and of layers that see everything.
    n_layers: [usize; 2],
    /// Bytes of k and v of one position in one layer: f16, heads padded to 8.
    row_bytes: usize,
}

const N_CTX: usize = 1000;

const EVERY_LAYER: Windowed =
    Windowed { golden: "mistral/window7", window: 7, n_layers: [2, 0], row_bytes: 2 * 24 * 2 };
/// Every third layer has no window, and another rotation.
const SOME_LAYERS: Windowed = Windowed {
    golden: "gemma3_text/pattern3-linear",
    window: 9,
    n_layers: [3, 1],
    row_bytes: 2 * 2 * 16 * 2,
};
const MODELS: [Windowed; 2] = [EVERY_LAYER, SOME_LAYERS];

impl Windowed {
    /// Returns the maximum number of pages that a session holds in layers with the
    /// window: the window, the 64 positions before it that are kept, the chunk, and a
    /// partly used page at either end.
    const fn most_near(&self, chunk: usize) -> usize {
        (self.window + 64 + chunk).div_ceil(PAGE_SIZE) + 1
    }

    /// Returns the maximum number of pages that a session of `len` positions holds.
    const fn most_pages(&self, chunk: usize, len: usize) -> usize {
        let far = if self.n_layers[1] > 0 { len.div_ceil(PAGE_SIZE) } else { 0 };
        self.most_near(chunk) + far
    }

    fn engine(&self, options: ModelOptions) -> Engine {
        let dir = support::lengthened(self.golden, N_CTX);
        let files = ModelFiles::open(dir.path()).unwrap();
        let options = ModelOptions { deterministic: true, ..options };
        load_files(files, &GPU, &options)
    }

    fn chunks_of(&self, prefill_chunk: usize) -> Engine {
        self.engine(ModelOptions { prefill_chunk, ..ModelOptions::default() })
    }
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 31 + 11) % 139).collect()
}

fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.advance(tokens).unwrap().to_vec()
}

#[test]
fn a_long_sequence_holds_only_the_pages_of_its_window() {
    for model in MODELS {
        let engine = model.chunks_of(32);
        let planned = engine.memory_plan().group_bytes(MemoryGroup::KvCache);
        let whole = if model.n_layers[1] > 0 { N_CTX.div_ceil(PAGE_SIZE) } else { 0 };
        let pages = model.n_layers[0] * model.most_near(32) + model.n_layers[1] * whole;
        let page_bytes = PAGE_SIZE * model.row_bytes;
        // The plan also has a page for copies and the overflow flag.
        assert!(planned < ((pages + 2) * page_bytes) as u64, "{}: {planned} bytes", model.golden);
        let at_first = model.most_near(32) + whole;
        assert_eq!(engine.kv_pages().1, at_first, "the pools start with the pages that the windows need");
        let all = tokens(700);
        let mut session = engine.session();
        for piece in all.chunks(90) {
            session.prefill(piece).unwrap();
            let (held, len) = (engine.kv_pages().0, session.len());
            assert!(held <= model.most_pages(32, len), "{}: {held} pages at {len}", model.golden);
        }
        for &token in &all[..200] {
            session.prefill(&[token]).unwrap();
            assert!(engine.kv_pages().0 <= model.most_pages(1, session.len()));
        }
        assert_eq!(engine.kv_pages().1, at_first, "the pools have not grown");
        drop(session);
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn a_window_as_long_as_the_context_needs_no_separate_pool() {
    let n_ctx = SOME_LAYERS.window + 64;
    let pages =
        |n_ctx| SOME_LAYERS.engine(ModelOptions { n_ctx: Some(n_ctx), ..Default::default() }).kv_pages().1;
    assert_eq!(pages(n_ctx), n_ctx.div_ceil(PAGE_SIZE));
    assert_eq!(pages(n_ctx + 1), 2 * n_ctx.div_ceil(PAGE_SIZE));
}

#[test]
fn other_sessions_make_both_pools_grow() {
    let engine = SOME_LAYERS.chunks_of(32);
    let at_first = engine.kv_pages().1;
    let all = tokens(500);
    let mut sessions: Vec<Session> = (0..4).map(|_| engine.session()).collect();
    let found: Vec<Vec<f32>> =
        sessions.iter_mut().enumerate().map(|(i, session)| logits(session, &all[i..])).collect();
    assert!(engine.kv_pages().1 > at_first);
    let mut one: Vec<&mut Session> = sessions.iter_mut().collect();
    engine.step_greedy(&mut one, &[1, 2, 3, 4], &mut Vec::new()).unwrap();
    drop(sessions);
    assert_eq!(engine.kv_pages(), (0, at_first), "the pools shrink to their first size");
    for (i, found) in found.iter().enumerate() {
        assert_eq!(found, &logits(&mut engine.session(), &all[i..]), "session {i}");
    }
}

#[test]
fn chunks_do_not_change_what_a_window_sees() {
    let all = tokens(300);
    for model in MODELS {
        let mut whole = model.chunks_of(512).session();
        let expected = logits(&mut whole, &all);
        for chunk in [1, 7, 33, 64] {
            let engine = model.chunks_of(chunk);
            let found = logits(&mut engine.session(), &all);
            assert_eq!(expected, found, "{}: chunks of {chunk}", model.golden);
        }
    }
}

#[test]
fn truncated_sessions_continue_as_fresh_ones() {
    let all = tokens(400);
    for model in MODELS {
        let engine = model.chunks_of(32);
        // Within the kept positions, at their border, and far before it.
        for len in [399, 380, 337, 336, 335, 200, 3] {
            let mut session = engine.session();
            session.prefill(&all).unwrap();
            session.truncate(len);
            let found = logits(&mut session, &[5, 6]);
            let mut fresh = engine.session();
            fresh.prefill(&all[..len]).unwrap();
            assert_eq!(found, logits(&mut fresh, &[5, 6]), "{}: truncated to {len}", model.golden);
        }
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn forks_keep_the_pages_that_they_see() {
    let all = tokens(330);
    for model in MODELS {
        let engine = model.chunks_of(32);
        let mut first = engine.session();
        first.prefill(&all[..150]).unwrap();
        let mut second = first.fork();
        // The first session frees pages that the second one still sees.
        first.prefill(&all[150..]).unwrap();
        let late = logits(&mut first, &[9]);
        let early = logits(&mut second, &all[150..160]);
        let mut fresh = engine.session();
        assert_eq!(early, logits(&mut fresh, &all[..160]));
        fresh.prefill(&all[160..]).unwrap();
        assert_eq!(late, logits(&mut fresh, &[9]));
        drop((first, second, fresh));
        assert_eq!(engine.kv_pages().0, 0);
    }
}

#[test]
fn a_saved_session_without_its_first_pages_continues() {
    let all = tokens(300);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("story.session");
    for model in MODELS {
        let engine = model.chunks_of(32);
        for n in [40, 300] {
            let mut session = engine.session();
            session.prefill(&all[..n]).unwrap();
            session.save(&path).unwrap();
            let held = engine.kv_pages().0;
            let mut restored = engine.restore(&path).unwrap();
            assert_eq!(engine.kv_pages().0, 2 * held, "{}: its pages were in the file", model.golden);
            assert_eq!(restored.tokens(), session.tokens());
            let pages = model.n_layers[0] * model.most_near(32) + model.n_layers[1] * n.div_ceil(PAGE_SIZE);
            let most = (pages * PAGE_SIZE * model.row_bytes + 4 * n + 4096) as u64;
            let bytes = path.metadata().unwrap().len();
            assert!(bytes < most, "{}: {bytes} bytes for {n} tokens, at most {most}", model.golden);
            assert_eq!(logits(&mut restored, &[3]), logits(&mut session, &[3]), "{n} tokens");
            drop((session, restored));
            assert_eq!(engine.kv_pages().0, 0);
        }
    }
}

/// If another engine groups its layers differently, the tokens are run again.
#[test]
fn a_saved_session_continues_in_another_context() {
    let all = tokens(70);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("story.session");
    let with_context = |n_ctx| SOME_LAYERS.engine(ModelOptions { n_ctx: Some(n_ctx), ..Default::default() });
    // One group of layers in the short context, two in the long one.
    let (short, long) = (with_context(73), with_context(N_CTX));
    for (from, to) in [(&short, &long), (&long, &short)] {
        let mut session = from.session();
        session.prefill(&all).unwrap();
        session.save(&path).unwrap();
        let mut restored = to.restore(&path).unwrap();
        assert_eq!(logits(&mut restored, &[3]), logits(&mut session, &[3]));
    }
    let mut cut = long.session();
    cut.prefill(&tokens(95)).unwrap();
    cut.prefill(&[7]).unwrap();
    // One page is gone, and the pages that position 72 sees are there.
    cut.truncate(72);
    cut.save(&path).unwrap();
    let mut restored = short.restore(&path).unwrap();
    assert_eq!(logits(&mut restored, &[3]), logits(&mut cut, &[3]));
}

#[test]
fn drafts_are_undone_within_a_window() {
    for model in MODELS {
        let text = |lookup| {
            let engine = model.chunks_of(32);
            let at_first = engine.kv_pages().1;
            // A periodic prompt leads to drafts, and some of them fail.
            let prompt: Vec<u32> = (0..300).map(|i| [4, 9, 2, 77, 50][i % 5]).collect();
            let options = GenerateOptions {
                max_new_tokens: Some(150),
                ignore_eos: true,
                sampling: SamplingParams::greedy(),
                prompt_lookup: lookup,
                ..GenerateOptions::default()
            };
            let session = engine.session();
            let mut generation = session.generate(&prompt, options).unwrap();
            let all: Vec<u32> = generation.by_ref().filter_map(|token| token.unwrap().token).collect();
            assert!(engine.kv_pages().1 <= at_first + 2, "{:?}", engine.kv_pages());
            all
        };
        assert_eq!(text(None), text(Some(8)), "{}", model.golden);
    }
}
