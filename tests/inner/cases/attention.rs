//! The list of attention cases.

use wgpt::internals::conformance::cases::{AttentionCase, Case, KvShape, ReduceCase};
use wgpt::internals::kernels::ROWS_MAX;
use wgpt::internals::tensor::DType;

use super::{LARGE_HEAD, shapes};

/// Pushes the cases of all attention kernels.
pub(super) fn all(all: &mut Vec<Case>) {
    prefill(all);
    packed(all);
    decode(all);
    reduce(all);
    windows(all);
    capped(all);
}

/// Returns caches in which groups of 2, 3, 4, 7 and 8 query heads share a key/value head.
/// They include multi-query caches, and heads of 256 elements in groups of 4 and 8. Types
/// and numbers of slabs also vary.
pub(super) fn grouped() -> Vec<KvShape> {
    let shape =
        |n_head, n_kv_head, head_dim, dtype, n_slabs| KvShape { n_head, n_kv_head, head_dim, dtype, n_slabs };
    vec![
        shape(6, 2, 8, DType::F16, 1),
        shape(4, 2, 20, DType::F32, 1),
        shape(9, 3, 64, DType::F16, 1),
        shape(4, 1, 256, DType::F16, 1),
        shape(7, 1, 64, DType::F16, 3),
        shape(16, 2, 128, DType::F16, 1),
        shape(8, 1, 256, DType::F32, 2),
    ]
}

/// Windows around the sizes of a page (16), of tiles (32 keys) and of splits. Positions
/// are around the boundaries of pages, tiles and splits, and around the window's size.
fn windows(all: &mut Vec<Case>) {
    let shapes = [grouped()[0], grouped()[2], shapes()[3]];
    for kv in shapes {
        for window in [1, 15, 16, 17, 100] {
            let case = |position, n_rows| AttentionCase {
                window: Some(window),
                ..AttentionCase::plain(kv, position, n_rows)
            };
            // Rows before and after the window is full, and rows across pages and tiles.
            for (position, n_rows) in [(0, 20), (window, 3), (95, 18), (200, 33), (331, 1)] {
                all.push(Case::AttentionPrefill(case(position, n_rows)));
            }
            for (position, n_rows) in [(40, 21), (131, 40)] {
                all.push(Case::AttentionPacked(case(position, n_rows)));
            }
            for (position, n_rows) in [(0, 1), (window, 1), (300, 1), (303, 5), (1039, 2)] {
                all.push(Case::AttentionDecode(case(position, n_rows)));
            }
        }
        // Windows of several splits.
        for window in [270, 600, 1100] {
            for (position, n_rows) in [(255, 1), (700, 3), (1300, 1), (3000, 2)] {
                let case = AttentionCase::plain(kv, position, n_rows);
                all.push(Case::AttentionDecode(AttentionCase { window: Some(window), ..case }));
            }
        }
    }
}

/// Caps of Gemma 2's size with scores far below and far above them, and a cap that
/// changes every score.
fn capped(all: &mut Vec<Case>) {
    for (kv, cap, sharpness) in [
        (grouped()[0], 50.0, 1.0),
        (grouped()[0], 50.0, 40.0),
        (grouped()[2], 50.0, 40.0),
        (grouped()[3], 1.0, 1.0),
        (shapes()[4], 1.0, 10.0),
    ] {
        let case = |position, n_rows, window| AttentionCase {
            sharpness,
            window,
            soft_cap: Some(cap),
            ..AttentionCase::plain(kv, position, n_rows)
        };
        for window in [None, Some(17)] {
            all.push(Case::AttentionPrefill(case(30, 20, window)));
            all.push(Case::AttentionPacked(case(40, 21, window)));
            all.push(Case::AttentionDecode(case(299, 2, window)));
        }
    }
}

/// Returns a plain case with a given spread of the scores.
fn sharp(kv: KvShape, position: usize, n_rows: usize, sharpness: f32) -> AttentionCase {
    AttentionCase { sharpness, ..AttentionCase::plain(kv, position, n_rows) }
}

fn prefill(all: &mut Vec<Case>) {
    let mut push = |kv, n_rows, position, sharpness| {
        all.push(Case::AttentionPrefill(sharp(kv, position, n_rows, sharpness)));
    };
    for kv in shapes() {
        // Rows around 8 and 16, keys around 8 and 32, chunks after other chunks.
        for (n_rows, position) in [(1, 0), (7, 0), (16, 0), (17, 15), (33, 0), (1, 31), (3, 32), (9, 63)] {
            push(kv, n_rows, position, 1.0);
        }
        push(kv, 20, 30, 40.0);
    }
    for kv in [shapes()[0], shapes()[3]] {
        push(kv, 70, 200, 1.0);
    }
    push(LARGE_HEAD, 5, 20, 1.0);
    for kv in grouped() {
        for (n_rows, position) in [(1, 0), (3, 14), (17, 15), (6, 62)] {
            push(kv, n_rows, position, 1.0);
        }
    }
}

fn packed(all: &mut Vec<Case>) {
    let mut push = |kv, n_rows, position, sharpness| {
        all.push(Case::AttentionPacked(sharp(kv, position, n_rows, sharpness)));
    };
    for kv in shapes() {
        // Runs of 1, 2, 3 ... rows across the boundaries of groups of 8 and 16.
        for (n_rows, position) in [(1, 0), (3, 5), (21, 40), (55, 63), (40, 130)] {
            push(kv, n_rows, position, 1.0);
        }
        push(kv, 20, 30, 40.0);
    }
    push(shapes()[1], ROWS_MAX, 100, 1.0);
    push(LARGE_HEAD, 9, 20, 1.0);
    for kv in grouped() {
        for (n_rows, position) in [(1, 0), (21, 40)] {
            push(kv, n_rows, position, 1.0);
        }
    }
    push(grouped()[0], ROWS_MAX, 100, 1.0);
}

fn decode(all: &mut Vec<Case>) {
    let mut push = |kv, n_rows, kv_len: usize, sharpness| {
        all.push(Case::AttentionDecode(sharp(kv, kv_len - 1, n_rows, sharpness)));
    };
    for kv in shapes() {
        // Positions around the pages (16), the tiles (64) and the splits (256).
        for kv_len in [1, 2, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 600] {
            push(kv, 1, kv_len, 1.0);
        }
        push(kv, 1, 270, 40.0);
        // Rows of several sequences of different lengths.
        for (n_rows, kv_len) in [(2, 3), (3, 40), (5, 300), (16, 290)] {
            push(kv, n_rows, kv_len, 1.0);
        }
    }
    push(LARGE_HEAD, 1, 300, 1.0);
    for kv in grouped() {
        for (n_rows, kv_len) in [(1, 1), (1, 17), (3, 257), (2, 600)] {
            push(kv, n_rows, kv_len, 1.0);
        }
    }
    // Split sizes of per_thread: 3072 positions for one head, 1024 for three, 768 for
    // four.
    for (kv, lengths) in [
        (shapes()[1], [3072, 3073, 6200]),
        (grouped()[2], [1024, 1025, 2100]),
        (grouped()[3], [768, 769, 1600]),
    ] {
        for kv_len in lengths {
            push(kv, 2, kv_len, 1.0);
        }
    }
}

fn reduce(all: &mut Vec<Case>) {
    for (n_head, head_dim, max_splits, split_keys, kv_len, window) in [
        (1, 8, 1, 256, 1, None),
        (25, 8, 4, 256, 600, None),
        (2, 64, 32, 16, 500, None),
        (2, 64, 4, 256, 256, None),
        (2, 64, 4, 256, 257, None),
        (3, 80, 9, 256, 2304, None),
        // Splits begin at the page of the first visible position: 880 and 1136.
        (2, 64, 4, 256, 1137, Some(250)),
        (2, 64, 4, 256, 1136, Some(250)),
        (2, 8, 10, 64, 600, Some(600)),
    ] {
        let case = ReduceCase { n_head, head_dim, max_splits, split_keys, kv_len, window };
        all.push(Case::AttentionReduce(case));
    }
}
