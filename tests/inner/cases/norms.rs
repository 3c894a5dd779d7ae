//! The list of norm cases.

use wgpt::internals::conformance::cases::{Case, NormCase, NormInput, QkNormCase};
use wgpt::internals::kernels::{NormForm, ROWS_MAX};

pub(super) fn layer_norm(all: &mut Vec<Case>) {
    use NormInput::{Constant, LargeMean, Outlier, Random};
    let mut push = |n_rows, first_row, n, input| {
        all.push(Case::Norm(NormCase { first_row, input, ..NormCase::rows(NormForm::Layer, n_rows, n) }));
    };
    // 512 features are one vec4 for each of the 128 threads.
    for n in [1, 4, 7, 8, 9, 20, 75, 511, 512, 513, 600, 1600] {
        push(3, 0, n, Random);
    }
    for n_rows in [1, 7, 8, 9] {
        push(n_rows, 0, 20, Random);
    }
    // The head normalizes only the last row of a chunk.
    push(1, 6, 75, Random);
    for n in [20, 75, 600] {
        push(3, 0, n, LargeMean);
        push(3, 0, n, Constant);
        push(3, 0, n, Outlier);
    }
    // More rows than a grid has workgroups in one dimension.
    push(65_600, 0, 5, Random);
}

pub(super) fn rms_norm(all: &mut Vec<Case>) {
    use NormInput::{Large, Outlier, Random, Small, Zero};
    let mut push = |n_rows, first_row, n, input, accumulate| {
        let random = NormCase::rows(NormForm::Rms, n_rows, n);
        all.push(Case::Norm(NormCase { first_row, input, accumulate, ..random }));
    };
    // 512 features are one vec4 for each of the 128 threads.
    for n in [1, 4, 7, 8, 9, 20, 75, 511, 512, 513, 576, 2048] {
        push(3, 0, n, Random, false);
        push(3, 0, n, Random, true);
    }
    for n_rows in [1, 7, 8, 9] {
        push(n_rows, 0, 20, Random, false);
    }
    // The head normalizes only the last row of a chunk.
    push(1, 6, 75, Random, false);
    push(2, 6, 75, Random, true);
    for n in [20, 75, 600] {
        for input in [Large, Small, Zero, Outlier] {
            push(3, 0, n, input, false);
        }
        push(3, 0, n, Large, true);
    }
    // More rows than a grid has workgroups in one dimension.
    push(65_600, 0, 5, Random, false);
}

pub(super) fn qk_norm(all: &mut Vec<Case>) {
    let mut push = |case: QkNormCase| all.push(Case::QkNorm(case));
    // Head sizes below and above one vec4 for each of the eight threads, and padded ones.
    // One, two and several query heads share a key head.
    for (n_head, n_kv_head, head_dim) in [
        (1, 1, 1),
        (2, 1, 4),
        (5, 5, 6),
        (25, 5, 3),
        (2, 2, 20),
        (3, 1, 32),
        (4, 2, 64),
        (4, 1, 128),
        (1, 1, 256),
    ] {
        for batch in [false, true] {
            let usual =
                QkNormCase { position: 17, batch, ..QkNormCase::usual(3, n_head, n_kv_head, head_dim) };
            push(QkNormCase { rotated: None, ..usual.clone() });
            // Rotation of a part of the head, as in Phi.
            push(QkNormCase { rotated: Some(head_dim / 4 * 2), ..usual.clone() });
            push(usual);
        }
    }
    for scale in [0.0, 1e-4, 1e4] {
        push(QkNormCase { scale, ..QkNormCase::usual(2, 4, 2, 64) });
    }
    push(QkNormCase { batch: true, ..QkNormCase::usual(ROWS_MAX, 2, 1, 16) });
    // Long contexts, and more heads than a grid has workgroups in one dimension.
    push(QkNormCase { position: 8000, ..QkNormCase::usual(2, 2, 1, 64) });
    push(QkNormCase { rotated: None, ..QkNormCase::usual(21_900, 2, 1, 8) });
}
