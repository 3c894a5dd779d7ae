//! Cases of gemv and gemm in the gated, rotated and capped forms, with and without a
//! preceding norm.

use wgpt::internals::conformance::cases::{
    AfterProjection, Case, GatedCase, KvShape, MatmulCase, MatmulInput, NormGemvCase, RotaryShape,
};
use wgpt::internals::kernels::{Activation, NormForm};
use wgpt::internals::tensor::DType;

use super::shapes;

/// Adds all of these cases.
pub(super) fn all(all: &mut Vec<Case>) {
    gated(all);
    rotated(all);
    soft_cap(all);
    after_norm(all);
}

/// Adds the case as gemm, and also as gemv if it has few rows.
fn push(all: &mut Vec<Case>, case: MatmulCase) {
    if case.m <= 16 {
        all.push(Case::Gemv(case.clone()));
    }
    all.push(Case::Gemm(case));
}

fn gated(all: &mut Vec<Case>) {
    use Activation::{GeluTanh, Silu};
    for dtype in [DType::F16, DType::F32] {
        // 172 is from TinyStories' Llama and is padded to 176. The other values are: n
        // around a pack and a workgroup, k around the threads of a workgroup, and rows
        // around batches and tiles.
        for (m, n, k) in [
            (1, 172, 64),
            (1, 1, 1),
            (2, 7, 20),
            (3, 33, 75),
            (5, 64, 511),
            (8, 65, 520),
            (16, 12, 24),
            (31, 172, 40),
            (65, 43, 17),
        ] {
            push(all, MatmulCase::gated(m, n, k, dtype, Silu));
        }
        let biased = MatmulCase { bias: true, ..MatmulCase::gated(3, 75, 20, dtype, GeluTanh) };
        // Several pieces, and several dispatches per piece.
        push(all, MatmulCase { piece_rows: 24, ..biased.clone() });
        push(all, MatmulCase { rows_at_once: Some(64), ..biased.clone() });
        push(all, MatmulCase { m: 70, ..biased });
    }
    for activation in Activation::ALL {
        let plain = MatmulCase::gated(2, 50, 8, DType::F16, activation);
        push(all, MatmulCase { bias: true, ..plain.clone() });
        push(all, MatmulCase { input: MatmulInput::Extremes, ..plain });
        for (n_rows, n) in [(1, 1), (3, 20), (9, 172)] {
            all.push(Case::Gated(GatedCase { n_rows, n, activation }));
        }
    }
}

fn rotated(all: &mut Vec<Case>) {
    let shape =
        |n_head, n_kv_head, head_dim, rotary_dim| RotaryShape { n_head, n_kv_head, head_dim, rotary_dim };
    // Heads of 3 elements, padded to 8, two of which are rotated; fewer key/value heads;
    // partially rotated heads (GPT-NeoX, Phi); a head size that is not a multiple of
    // eight.
    for (rotary, dtype) in [
        (shape(5, 5, 3, 2), DType::F16),
        (shape(4, 2, 16, 16), DType::F32),
        (shape(6, 2, 64, 64), DType::F16),
        (shape(2, 1, 80, 32), DType::F16),
        (shape(3, 1, 20, 6), DType::F32),
    ] {
        for (m, k, position, batch) in
            [(1, 20, 0, true), (1, 64, 1000, true), (3, 75, 17, true), (16, 24, 40, true), (5, 24, 9, false)]
        {
            let case = MatmulCase::rotated(m, k, dtype, rotary, position, batch);
            push(all, MatmulCase { bias: k > 20, ..case });
        }
        let chunk = MatmulCase::rotated(70, 40, dtype, rotary, 33, false);
        push(all, MatmulCase { piece_rows: 24, ..chunk.clone() });
        push(all, MatmulCase { rows_at_once: Some(64), ..chunk.clone() });
        push(all, MatmulCase::rotated(33, 40, dtype, rotary, 5, true));
        push(all, chunk);
    }
}

fn soft_cap(all: &mut Vec<Case>) {
    // Gemma 2's cap of logits, and a cap within the range of the sums.
    for (m, cap) in [(1, 30.0), (3, 1.5), (40, 30.0)] {
        let capped = |case| MatmulCase { soft_cap: Some(cap), ..case };
        push(all, capped(MatmulCase::plain(m, 33, 75, DType::F16)));
        push(
            all,
            capped(MatmulCase { bias: true, piece_rows: 64, ..MatmulCase::plain(m, 130, 20, DType::F32) }),
        );
        let input = MatmulInput::Extremes;
        push(all, capped(MatmulCase { input, ..MatmulCase::plain(m, 50, 8, DType::F16) }));
    }
}

fn after_norm(all: &mut Vec<Case>) {
    let mut push = |m, n_embd, dtype, after| {
        for norm in NormForm::ALL {
            let one_row = NormGemvCase::one_row(norm, n_embd, dtype, after);
            all.push(Case::NormGemv(NormGemvCase { m, ..one_row }));
        }
    };
    // Widths around one vec4 per thread. 4100 columns exceed the workgroup memory of the
    // per-thread kernel.
    for (m, n_embd) in [(1, 1), (1, 20), (1, 768), (1, 4100), (3, 75)] {
        for dtype in [DType::F16, DType::F32] {
            push(m, n_embd, dtype, AfterProjection::Gated(Activation::Silu, 43));
        }
    }
    for (kv, m) in shapes().into_iter().zip([1, 1, 1, 1, 4, 16]) {
        push(m, 20, DType::F16, AfterProjection::Rotated(kv, None));
        push(1, 75, DType::F32, AfterProjection::Rotated(kv, None));
    }
    // Key/value heads shared by several query heads, with and without rotation.
    for (n_head, n_kv_head, head_dim, dtype) in [(6, 2, 3, DType::F16), (4, 1, 16, DType::F32)] {
        let kv = KvShape { n_head, n_kv_head, head_dim, dtype, n_slabs: 1 };
        for (m, kv) in [(1, kv), (4, kv), (1, KvShape { n_slabs: 2, ..kv })] {
            push(m, 20, DType::F16, AfterProjection::Cache(kv));
            push(m, 20, DType::F16, AfterProjection::Rotated(kv, None));
        }
        push(1, 75, DType::F32, AfterProjection::Rotated(kv, None));
    }
    let kv = KvShape { n_head: 6, n_kv_head: 2, head_dim: 3, dtype: DType::F16, n_slabs: 1 };
    push(1, 20, DType::F16, AfterProjection::Planted(kv, 1e5));
    push(1, 20, DType::F16, AfterProjection::Rotated(kv, Some(1e5)));
    // With the f16 overflow flag, a rotated append is a separate dispatch. Infinity is
    // omitted. In the padding of an odd head, it would be multiplied by 0, the sine of an
    // unrotated pair, which gives NaN.
    for number in [65_519.0, 65_520.0, 1e5] {
        push(1, 20, DType::F16, AfterProjection::Rotated(shapes()[0], Some(number)));
    }
}
