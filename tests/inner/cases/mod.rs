//! The list of cases: sizes of 1, sizes one below, at and above each tile, odd sizes, and
//! extreme values.

mod attention;
mod forms;
mod logits;
mod norms;

use attention::grouped;
use wgpt::internals::conformance::cases::{
    AfterProjection, Case, EmbeddingCase, KvAppendCase, KvShape, MatmulCase, MatmulInput, NormGemvCase,
};
use wgpt::internals::kernels::{Activation, NormForm, ROWS_MAX};
use wgpt::internals::tensor::{Axis, DType};

const DTYPES: [DType; 2] = [DType::F16, DType::F32];

/// Numbers around the range of f16: the largest, numbers that still round to it, and
/// numbers beyond it.
const AROUND_F16: [f32; 11] = [
    65_504.0,
    65_519.0,
    65_519.996,
    -65_519.996,
    65_520.0,
    -65_520.0,
    1e5,
    -1e5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Returns at least one case of each kernel, quick to compile and to run: all cases
/// except those of attention with heads of more than 8 elements or with several slabs.
pub fn quick() -> Vec<Case> {
    let small = |kv: &KvShape| kv.head_dim <= 8 && kv.n_slabs == 1;
    let mut all = all();
    all.retain(|case| match case {
        Case::AttentionPrefill(case) | Case::AttentionPacked(case) | Case::AttentionDecode(case) => {
            small(&case.kv)
        }
        _ => true,
    });
    all
}

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    matmul(&mut all);
    forms::all(&mut all);
    norm_gemv(&mut all);
    norms::layer_norm(&mut all);
    norms::rms_norm(&mut all);
    norms::qk_norm(&mut all);
    embedding(&mut all);
    logits::all(&mut all);
    cache(&mut all);
    attention::all(&mut all);
    all
}

fn matmul(all: &mut Vec<Case>) {
    for dtype in DTYPES {
        // n is around a workgroup of the per-thread kernels (32) and a tile of gemm (64).
        // k is around the tiles of gemm (16, 32) and the threads of gemv (64 times 8).
        for (n, k) in [
            (1, 1),
            (7, 20),
            (8, 8),
            (20, 75),
            (31, 15),
            (33, 16),
            (32, 32),
            (96, 40),
            (63, 17),
            (64, 600),
            (65, 511),
            (130, 520),
        ] {
            all.push(Case::Gemv(MatmulCase::plain(1, n, k, dtype)));
            for m in [1, 2, 31, 33] {
                all.push(Case::Gemm(MatmulCase::plain(m, n, k, dtype)));
            }
        }
        for m in [16, 32, 63, 64, 65, 127, 128, 129] {
            all.push(Case::Gemm(MatmulCase::plain(m, 72, 24, dtype)));
        }
        // Every batch size that one pass over the weights can process, and sizes around
        // them.
        for m in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16] {
            all.push(Case::Gemv(MatmulCase::plain(m, 72, 24, dtype)));
            all.push(Case::Gemv(MatmulCase { bias: true, ..MatmulCase::plain(m, 33, 520, dtype) }));
        }
        // q, k and v of 25 heads, and the projection after 25 heads.
        for (n, k) in [(Axis::grouped(75, 3), Axis::plain(75)), (Axis::plain(75), Axis::grouped(25, 3))] {
            let case = MatmulCase {
                n,
                k,
                piece_rows: n.padded_len(),
                bias: true,
                ..MatmulCase::plain(3, 1, 1, dtype)
            };
            all.push(Case::Gemv(MatmulCase { m: 1, ..case.clone() }));
            all.push(Case::Gemm(case));
        }
        let pieces = MatmulCase {
            piece_rows: 24,
            bias: true,
            accumulate: true,
            ..MatmulCase::plain(5, 75, 20, dtype)
        };
        all.push(Case::Gemv(MatmulCase { m: 1, ..pieces.clone() }));
        all.push(Case::Gemv(pieces.clone()));
        all.push(Case::Gemm(pieces));
    }
    for activation in Activation::ALL {
        for (bias, accumulate) in [(false, false), (false, true), (true, false), (true, true)] {
            let case =
                MatmulCase { bias, activation, accumulate, ..MatmulCase::plain(3, 20, 20, DType::F16) };
            all.push(Case::Gemv(MatmulCase { m: 1, ..case.clone() }));
            all.push(Case::Gemm(case));
        }
        let input = MatmulInput::Extremes;
        let case = MatmulCase { activation, input, ..MatmulCase::plain(2, 50, 8, DType::F16) };
        all.push(Case::Gemv(MatmulCase { m: 1, ..case.clone() }));
        all.push(Case::Gemm(case));
    }
    // A grid of more than 65,535 workgroups in one dimension, and a vocabulary of 128 k
    // in its usual pieces.
    all.push(Case::Gemv(MatmulCase::plain(1, 4 * 65_535 + 9, 5, DType::F16)));
    let vocabulary = MatmulCase { piece_rows: 65_536, ..MatmulCase::plain(2, 128_256, 8, DType::F16) };
    all.push(Case::Gemv(MatmulCase { m: 1, ..vocabulary.clone() }));
    all.push(Case::Gemm(MatmulCase { piece_rows: 128_256, ..vocabulary.clone() }));
    all.push(Case::Gemm(vocabulary));
}

fn norm_gemv(all: &mut Vec<Case>) {
    let mut push = |m, first_row, n_embd, dtype, after| {
        for norm in NormForm::ALL {
            let one_row = NormGemvCase::one_row(norm, n_embd, dtype, after);
            all.push(Case::NormGemv(NormGemvCase { m, first_row, ..one_row }));
        }
    };
    // Widths around one vec4 per thread. 4100 columns exceed the workgroup memory of the
    // per-thread kernel.
    for (m, n_embd) in [(1, 1), (1, 20), (1, 257), (1, 768), (1, 4100), (2, 40), (3, 75), (7, 520)] {
        for dtype in DTYPES {
            push(m, 0, n_embd, dtype, AfterProjection::Activation(Activation::GeluTanh, 33));
        }
    }
    // The head reads the last row of a chunk.
    push(1, 6, 75, DType::F16, AfterProjection::Activation(Activation::None, 100));
    push(3, 6, 75, DType::F16, AfterProjection::Activation(Activation::None, 100));
    for (kv, m) in shapes().into_iter().zip([1, 1, 1, 1, 4, 16]) {
        push(m, 0, 20, DType::F16, AfterProjection::Cache(kv));
        push(1, 0, 75, DType::F32, AfterProjection::Cache(kv));
    }
    // One slab, for which the append may be fused, and three.
    for kv in [shapes()[0], shapes()[3]] {
        for number in AROUND_F16 {
            push(1, 0, 20, DType::F16, AfterProjection::Planted(kv, number));
        }
    }
    push(5, 0, 20, DType::F16, AfterProjection::Planted(shapes()[0], 1e5));
    // Residual streams grow: the sum of a row's squares may reach 1e12.
    for (norm, m) in [(NormForm::Layer, 1), (NormForm::Rms, 1), (NormForm::Rms, 3)] {
        let after = AfterProjection::Activation(Activation::None, 33);
        let one_row = NormGemvCase::one_row(norm, 520, DType::F16, after);
        all.push(Case::NormGemv(NormGemvCase { m, magnitude: 1e4, ..one_row }));
    }
}

fn embedding(all: &mut Vec<Case>) {
    for dtype in DTYPES {
        for (n_tokens, position, vocab_size, n_embd, piece_rows) in [
            (1, 0, 11, 8, 16),
            (3, 7, 257, 20, 264),
            (65, 1, 131, 75, 136),
            // The tokens span several pieces, the last of which is smaller.
            (40, 30, 50, 24, 16),
        ] {
            for batch in [false, true] {
                let n_tokens = if batch { n_tokens.min(ROWS_MAX) } else { n_tokens };
                let usual = EmbeddingCase::usual(n_tokens, vocab_size, n_embd, dtype);
                let case = EmbeddingCase { position, piece_rows, batch, ..usual };
                // Gemma's factor, the square root of the width.
                let scaled = EmbeddingCase { wpe: false, scale: (n_embd as f32).sqrt(), ..case.clone() };
                let both = EmbeddingCase { wpe: true, ..scaled.clone() };
                let neither = EmbeddingCase { scale: 1.0, ..scaled.clone() };
                all.extend([case, scaled, both, neither].map(Case::Embedding));
            }
        }
    }
}

/// Returns caches with heads of 3 (padded to 8), 8, 20 (padded to 24), 64, 80 and 128
/// elements, with 1, 2 and 25 heads, and with one to four slabs. Types and slabs vary
/// with the head size instead of in every combination. Each combination is a separate
/// pipeline, which takes seconds to compile on software adapters.
pub(super) fn shapes() -> Vec<KvShape> {
    let shape =
        |n_head, head_dim, dtype, n_slabs| KvShape { n_head, n_kv_head: n_head, head_dim, dtype, n_slabs };
    vec![
        shape(25, 3, DType::F16, 1),
        shape(2, 8, DType::F16, 1),
        shape(1, 20, DType::F32, 2),
        shape(2, 64, DType::F16, 3),
        shape(2, 80, DType::F32, 4),
        shape(1, 128, DType::F16, 1),
    ]
}

/// One head of an unusual size.
pub(super) const LARGE_HEAD: KvShape =
    KvShape { n_head: 1, n_kv_head: 1, head_dim: 600, dtype: DType::F16, n_slabs: 1 };

fn cache(all: &mut Vec<Case>) {
    let four_slabs = KvShape { n_slabs: 4, ..shapes()[0] };
    for kv in shapes().into_iter().chain([four_slabs, LARGE_HEAD]).chain(grouped()) {
        // One row; rows across page boundaries; a chunk after other chunks.
        for (n_rows, position) in [(1, 0), (1, 17), (16, 0), (35, 15), (17, 48)] {
            all.push(Case::KvAppend(KvAppendCase { kv, position, n_rows, batch: false, planted: None }));
            if n_rows <= ROWS_MAX {
                all.push(Case::KvAppend(KvAppendCase { kv, position, n_rows, batch: true, planted: None }));
            }
        }
    }
    for kv in [shapes()[0], four_slabs, grouped()[0]] {
        for number in AROUND_F16 {
            let case = KvAppendCase { kv, position: 15, n_rows: 35, batch: false, planted: Some(number) };
            all.push(Case::KvAppend(case.clone()));
            all.push(Case::KvAppend(KvAppendCase { batch: true, ..case }));
        }
    }
}
