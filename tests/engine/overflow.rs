//! Keys and values too large for f16 on their way into the cache (f16 overflow): every
//! way of running tokens reports layer and position, undoes the step, and can continue.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use tempfile::TempDir;
use wgpt::{
    BatchLogits, DType, Engine, Error, GenerateOptions, Gpu, GpuOptions, ModelFiles, ModelOptions,
    SamplingParams, Session,
};

use crate::support::open_gpu;
use crate::{every_gpu, load_files};

/// One device per strategy of the adapter; the floor, with bounds checks in the shaders;
/// and one whose bindings hold 64 pages, so the cache has several slabs.
static GPUS: LazyLock<Vec<Arc<Gpu>>> = LazyLock::new(|| {
    let mut all = every_gpu();
    all.push(open_gpu(GpuOptions { max_binding_bytes: Some(256 << 10), ..GpuOptions::default() }));
    all.into_iter().map(Arc::new).collect()
});

/// The cause of an f16 overflow.
#[derive(Clone, Copy, Debug)]
enum Trigger {
    Token(u32),
    Position(usize),
}

const T: u32 = 700;
/// The index of the element that overflows in the vector of all keys or values: it is in
/// the second head.
const ELEMENT: usize = 21;
const N_EMBD: usize = 64;

/// Writes a copy of gpt2-tiny in which only the trigger makes an element of the layer's
/// keys or values exceed f16. The first feature of the residual stream is 0 except for
/// the trigger, and nothing writes to it. Nothing reads the element either, so without
/// f16 the trigger is an ordinary token.
fn write(layer: usize, what: &str, trigger: Trigger) -> TempDir {
    let golden = |name: &str| format!("tests/golden/gpt2-tiny/{name}");
    let bytes = std::fs::read(golden("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = format!("h.{layer}.");
    let mut tensors = Vec::new();
    for (name, tensor) in file.tensors() {
        let mut data: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        let columns = *tensor.shape().last().unwrap();
        // wte and wpe, and the matrices whose output is added to the residual stream.
        if ["wte.weight", "wpe.weight", "c_proj.weight", "c_proj.bias"].iter().any(|end| name.ends_with(end))
        {
            data.iter_mut().step_by(columns).for_each(|x| *x = 0.0);
        }
        match trigger {
            Trigger::Token(token) if name.ends_with("wte.weight") => data[token as usize * N_EMBD] = 60.0,
            Trigger::Position(position) if name.ends_with("wpe.weight") => data[position * N_EMBD] = 60.0,
            _ => {}
        }
        if name.contains(&own) && name.ends_with("ln_1.weight") {
            data[0] = 1.0;
        } else if name.contains(&own) && name.ends_with("ln_1.bias") {
            data[0] = 0.0;
        } else if name.contains(&own) && name.ends_with("attn.c_attn.weight") {
            let part = if what == "key" { 1 } else { 2 };
            // This weight multiplies the feature, about 8 at the trigger and near 0
            // elsewhere.
            data[part * N_EMBD + ELEMENT] = 20_000.0;
            data.iter_mut().skip(ELEMENT).step_by(columns).for_each(|x| *x = 0.0);
        } else if name.contains(&own) && name.ends_with("attn.c_attn.bias") {
            data[ELEMENT] = 0.0;
        } else if name.contains(&own) && name.ends_with("attn.c_proj.weight") {
            data[ELEMENT * columns..][..columns].fill(0.0);
        }
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((name, tensor.shape().to_vec(), bytes));
    }
    let dir = TempDir::new().unwrap();
    std::fs::copy(golden("config.json"), dir.path().join("config.json")).unwrap();
    let views = tensors
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    dir
}

fn load(gpu: &Arc<Gpu>, dir: &TempDir, options: ModelOptions) -> Engine {
    load_files(ModelFiles::open(dir.path()).unwrap(), gpu, &options)
}

fn detecting() -> ModelOptions {
    ModelOptions { detect_overflow: true, prefill_chunk: 16, ..ModelOptions::default() }
}

/// Returns `n` tokens without the trigger.
fn clean(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % 600).collect()
}

/// Like [`clean`], with the trigger at one or more places.
fn with(n: usize, places: &[usize]) -> Vec<u32> {
    let mut all = clean(n);
    places.iter().for_each(|&place| all[place] = T);
    all
}

/// The report that an engine must give.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    engine: &'a Engine,
    layer: usize,
    what: &'a str,
}

impl Wanted<'_> {
    fn session(&self, n: usize) -> Session {
        let mut session = self.engine.session();
        session.prefill(&clean(n)).unwrap();
        session
    }

    #[track_caller]
    fn at<V: Debug>(&self, result: Result<V, Error>, expected: usize) {
        match result.unwrap_err() {
            Error::Overflow { layer, position, what } => {
                assert_eq!((layer, position, what), (self.layer, expected, self.what));
            }
            error => panic!("{error}"),
        }
    }

    /// Checks that a session continues after a failure like one that never failed.
    #[track_caller]
    fn check_continues(&self, mut session: Session, len: usize) {
        assert_eq!(session.len(), len);
        let held = self.engine.kv_pages().0;
        let mut twin = self.engine.session();
        twin.prefill(session.tokens()).unwrap();
        assert_eq!(self.engine.kv_pages().0, 2 * held, "pages of the failed step are given back");
        for tokens in [&clean(5)[..], &[3]] {
            let logits = session.advance(tokens).unwrap().to_vec();
            assert!(logits.iter().all(|x| x.is_finite()));
            assert_eq!(logits, twin.advance(tokens).unwrap());
        }
    }

    fn prefill(&self) {
        // The overflow is in the second chunk of 16: at its start, in its middle, at its
        // end.
        for place in [16, 21, 31] {
            let tokens = with(40, &[place, 35]);
            let mut session = self.engine.session();
            self.at(session.prefill(&tokens), place);
            self.check_continues(session, 16);
        }
        let tokens = with(20, &[18, 19]);
        let mut session = self.engine.session();
        self.at(session.advance(&tokens).map(<[f32]>::to_vec), 18);
        self.at(session.advance_greedy(&tokens[16..]), 18);
        self.at(session.advance_each(&tokens[16..], |_, _| Ok(())), 18);
        self.at(session.profile(&tokens[16..]), 18);
        self.check_continues(session, 16);
    }

    fn decode(&self) {
        let mut session = self.session(33);
        self.at(session.advance(&[T]).map(<[f32]>::to_vec), 33);
        self.at(session.advance_greedy(&[T]), 33);
        self.at(session.prefill(&[T]), 33);
        self.check_continues(session, 33);
    }

    fn batch(&self) {
        let lens = [5, 17, 32, 3];
        let mut sessions = lens.map(|n| self.session(n));
        let mut logits = BatchLogits::new();
        let mut step = |tokens: &[u32]| {
            let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
            self.engine.step(&mut all, tokens, &mut logits).map(|()| logits.clone())
        };
        self.at(step(&[1, T, 2, 3]), 17);
        self.at(step(&[1, 2, T, 3]), 32);
        // Deterministic sessions run one after the other.
        let first = if self.engine.options().deterministic { 32 } else { 3 };
        self.at(step(&[1, 2, T, T]), first);
        let rows = step(&[1, 2, 3, 4]).unwrap();
        assert!(rows.rows().flatten().all(|x| x.is_finite()));
        let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
        self.at(self.engine.step_greedy(&mut all, &[T, 1, 2, 3], &mut Vec::new()), 6);
        assert_eq!(sessions.each_ref().map(Session::len), lens.map(|n| n + 1));
    }

    fn score(&self) {
        let mut session = self.session(9);
        self.at(session.score(&with(40, &[7, 8])), 16);
        self.at(session.score(&with(8, &[3])), 12);
        self.at(session.score_detailed(&with(8, &[7])), 16);
        let (mut one, mut two) = (self.session(4), self.session(40));
        let texts = [with(6, &[]), with(6, &[5]), with(6, &[])];
        let mut requests =
            [(&mut one, &texts[0][..]), (&mut session, &texts[1][..]), (&mut two, &texts[2][..])];
        self.at(self.engine.score(&mut requests), 14);
        assert_eq!([one.len(), two.len()], [4, 40]);
        one.score(&texts[0]).unwrap();
        drop((one, two));
        self.check_continues(session, 9);
    }
}

#[test]
fn every_path_reports_layer_and_position_and_continues() {
    for (layer, what) in [(0, "value"), (1, "key")] {
        let dir = write(layer, what, Trigger::Token(T));
        for (i, gpu) in GPUS.iter().enumerate() {
            for deterministic in [false, true] {
                let engine = load(gpu, &dir, ModelOptions { deterministic, ..detecting() });
                let wanted = Wanted { engine: &engine, layer, what };
                println!("gpu {i}, {:?}, deterministic: {deterministic}", gpu.strategy());
                wanted.prefill();
                wanted.decode();
                wanted.batch();
                wanted.score();
            }
        }
    }
}

/// Tests a cache of several slabs, which other kernels write.
#[test]
fn a_grown_cache_is_checked_too() {
    let gpu = GPUS.last().unwrap();
    for (layer, what) in [(1, "value"), (0, "key")] {
        let dir = write(layer, what, Trigger::Token(T));
        let engine = load(gpu, &dir, detecting());
        let wanted = Wanted { engine: &engine, layer, what };
        // 8 pages each: more than the first slab's 64.
        let held: Vec<Session> = (0..9).map(|_| wanted.session(128)).collect();
        assert!(engine.kv_pages().0 > 64);
        let mut session = wanted.session(20);
        wanted.at(session.advance_greedy(&[T]), 20);
        wanted.at(session.prefill(&with(7, &[6])), 26);
        wanted.batch();
        wanted.at(session.score(&with(8, &[3])), 23);
        drop(held);
        wanted.check_continues(session, 20);
    }
}

/// Without detection, the model computes with what f16 makes of the value, and no error
/// is reported.
#[test]
fn nothing_is_reported_without_the_option() {
    let dir = write(1, "key", Trigger::Token(T));
    for gpu in GPUS.iter() {
        let engine = load(gpu, &dir, ModelOptions { detect_overflow: false, ..detecting() });
        let mut session = engine.session();
        session.prefill(&with(40, &[21])).unwrap();
        session.advance(&[T]).unwrap();
    }
}

#[test]
fn an_f32_cache_does_not_overflow() {
    let dir = write(1, "value", Trigger::Token(T));
    for gpu in GPUS.iter() {
        for deterministic in [false, true] {
            let options = ModelOptions { kv_dtype: DType::F32, deterministic, ..detecting() };
            let engine = load(gpu, &dir, options);
            let mut session = engine.session();
            session.prefill(&with(40, &[21])).unwrap();
            let logits = session.advance(&[T]).unwrap();
            assert!(logits.iter().all(|x| x.is_finite()));
            session.score(&with(5, &[2])).unwrap();
        }
    }
}

/// Returns the tokens up to the end or an error.
fn generate(engine: &Engine, options: GenerateOptions) -> (Vec<u32>, Option<Error>) {
    let mut tokens = Vec::new();
    for piece in engine.generate_tokens(&clean(10), options).unwrap() {
        match piece {
            Ok(piece) => tokens.extend(piece.token),
            Err(error) => return (tokens, Some(error)),
        }
    }
    (tokens, None)
}

/// The step whose token is at the position fails. The tokens before it equal those of a
/// text that ends there, even if the failed pass ran ahead of them.
#[test]
fn a_text_reaches_the_position_whatever_runs_ahead() {
    const POSITION: usize = 30;
    let dir = write(1, "key", Trigger::Position(POSITION));
    let greedy = SamplingParams::greedy;
    let sampled = || SamplingParams { seed: Some(3), ..SamplingParams::default() };
    let options = |sampling, most| GenerateOptions {
        sampling,
        max_new_tokens: Some(most),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    for deterministic in [false, true] {
        let engine = |steps_ahead| {
            load(
                &GPUS[0],
                &dir,
                ModelOptions { steps_ahead: Some(steps_ahead), deterministic, ..detecting() },
            )
        };
        let plain = engine(0);
        for sampling in [greedy(), sampled()] {
            // 20 positions are left, and the last of them chooses one more token.
            let (expected, end) = generate(&plain, options(sampling.clone(), 21));
            assert_eq!(expected.len(), 21);
            assert!(end.is_none(), "{end:?}");
            let check = |engine: &Engine, options: GenerateOptions| {
                let drafts = options.prompt_lookup.is_some();
                let (tokens, end) = generate(engine, options);
                assert_eq!(tokens.len(), expected.len());
                // Drafts sum in another order, and may diverge at a tie.
                assert!(tokens == expected || (drafts && !deterministic));
                Wanted { engine, layer: 1, what: "key" }.at(end.map_or(Ok(()), Err), POSITION);
                assert_eq!(engine.kv_pages().0, 0);
            };
            check(&plain, options(sampling.clone(), 100));
            for steps_ahead in [1, 3, 16] {
                let ahead = engine(steps_ahead);
                check(&ahead, options(sampling.clone(), 100));
                let (tokens, end) = generate(&ahead, options(sampling.clone(), 21));
                assert!(end.is_none(), "{end:?}");
                assert_eq!(tokens, expected);
            }
            if sampling.is_plain_greedy() {
                for n in [1, 5, 15] {
                    let drafts = options(sampling.clone(), 100);
                    check(&plain, GenerateOptions { prompt_lookup: Some(n), ..drafts });
                }
            }
        }
    }
}

#[test]
fn debug_builds_detect_by_default() {
    assert_eq!(ModelOptions::default().detect_overflow, cfg!(debug_assertions));
}

/// A load warms up with the first position.
#[test]
fn a_model_loads_whose_first_position_exceeds_f16() {
    let dir = write(0, "key", Trigger::Position(0));
    let engine = load(&GPUS[0], &dir, detecting());
    let mut session = engine.session();
    let error = session.prefill(&clean(3)).unwrap_err();
    assert!(session.is_empty());
    assert_eq!(error.kind(), wgpt::ErrorKind::Input);
    let text = error.to_string();
    assert!(
        text.starts_with("layer 0: the key at position 0 ") && text.contains("ModelOptions::kv_dtype = f32"),
        "{text}"
    );
}
