//! The files of `shaders/common/`.

use super::{MatrixLayout, NormForm, Rows};
use crate::gpu::{Binding, Fragment, Strategy};
use crate::tensor::DType;

macro_rules! fragment {
    ($name:literal, [$($binding:expr),*]) => {
        fragment!($name, [$($binding),*], [])
    };
    ($name:literal, [$($binding:expr),*], [$($extension:literal),*]) => {
        Fragment {
            name: $name,
            source: include_str!(concat!("../../shaders/common/", $name, ".wgsl")),
            bindings: const { &[$($binding),*] },
            enables: &[$($extension),*],
        }
    };
}

pub const STEP: Fragment = fragment!("step", []);
pub const ROWS_CHUNK: Fragment = fragment!("rows_chunk", []);
pub const ROWS_BATCH: Fragment = fragment!("rows_batch", [Binding::uniform(13, "batch")]);
pub const LANE: Fragment = fragment!("lane", []);
const LANE_SUBGROUP: Fragment = fragment!("lane_subgroup", []);
pub const DOT4: Fragment = fragment!("dot4", []);
pub const PREFILL_ITEMS: Fragment = fragment!("prefill_items", []);
pub const OUTPUT: Fragment = fragment!("output", []);
pub const POSITIONS_LEARNED: Fragment = fragment!("positions_learned", [Binding::read(4, "wpe")]);
pub const POSITIONS_NONE: Fragment = fragment!("positions_none", []);
pub const OUTPUT_PARTIAL: Fragment = fragment!("output_partial", [Binding::read_write(6, "partial")]);
pub const OUTPUT_KV: Fragment =
    fragment!("output_kv", [Binding::read(7, "page_table"), Binding::read_write(9, "kv0")]);
pub const ACTIVATION: Fragment = fragment!("activation", []);
pub const SOFT_CAP: Fragment = fragment!("soft_cap", []);
pub const WINDOW: Fragment = fragment!("window", []);
pub const SOFTMAX: Fragment = fragment!("softmax", []);
pub const ORDER_KEY: Fragment = fragment!("order_key", []);
pub const SCORE: Fragment = fragment!(
    "score",
    [
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "logits"),
        Binding::read(3, "targets")
    ]
);
pub const WIDE: Fragment = fragment!("wide", []);
pub const SCAN_PAIR: Fragment = fragment!("scan_pair", []);
pub const SURVIVORS: Fragment = fragment!(
    "survivors",
    [Binding::read(2, "logits"), Binding::read(3, "weights"), Binding::read(4, "cut")]
);
pub const SAMPLE: Fragment =
    fragment!("sample", [Binding::uniform(0, "shape"), Binding::uniform(1, "params")]);
pub const SAMPLE_WEIGHT: Fragment = fragment!("sample_weight", []);
pub const CHACHA: Fragment = fragment!("chacha", []);
pub const KV_LAYOUT: Fragment = fragment!("kv_layout", []);
pub const MATMUL: Fragment = fragment!(
    "matmul",
    [
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(3, "weights"),
        Binding::read(4, "bias"),
        Binding::read_write(5, "out")
    ]
);
pub const NORM: Fragment = fragment!(
    "norm",
    [
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "x"),
        Binding::read(3, "scale"),
        Binding::read_write(4, "out")
    ]
);
pub const ATTENTION: Fragment = fragment!(
    "attention",
    [
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "qkv"),
        Binding::read(3, "page_table")
    ]
);

/// Returns the fragment for a pack: eight values of `dtype`.
pub fn pack(dtype: DType) -> Fragment {
    match dtype {
        DType::F16 => fragment!("pack_f16", []),
        DType::F32 => fragment!("pack_f32", []),
    }
}

/// Returns the fragment for four values of the cache's type.
pub fn pack4(dtype: DType) -> Fragment {
    match dtype {
        DType::F16 => fragment!("pack4_f16", []),
        DType::F32 => fragment!("pack4_f32", []),
    }
}

/// Returns the fragment that locates a matrix's packs: `row_start`, `pack_step`,
/// `row_step` and `four_rows_step`.
pub fn weights(layout: MatrixLayout) -> Fragment {
    match layout {
        MatrixLayout::Rows => fragment!("weights_rows", []),
        MatrixLayout::Blocks => fragment!("weights_blocks", []),
    }
}

/// Returns [`pack`] for reading only, in 64-bit loads if `wide`.
pub fn pack_for_reading(dtype: DType, wide: bool) -> Fragment {
    match dtype {
        _ if !wide => pack(dtype),
        DType::F16 => fragment!("pack_f16_wide", []),
        DType::F32 => fragment!("pack_f32_wide", []),
    }
}

/// Returns the fragment with a gemv's input: `x` unchanged or normalized.
pub fn input(norm: Option<NormForm>, strategy: Strategy) -> Fragment {
    let per_thread = strategy == Strategy::PerThread;
    match norm {
        None if per_thread => fragment!("input_plain_per_thread", [Binding::read(2, "x")]),
        None => fragment!("input_plain", [Binding::read(2, "x")]),
        Some(NormForm::Layer) if per_thread => {
            fragment!("input_norm_per_thread", [Binding::read(2, "x"), Binding::read(6, "scale")])
        }
        Some(NormForm::Layer) => fragment!("input_norm", [Binding::read(2, "x"), Binding::read(6, "scale")]),
        Some(NormForm::Rms) if per_thread => {
            fragment!("input_rms_per_thread", [Binding::read(2, "x"), Binding::read(6, "scale")])
        }
        Some(NormForm::Rms) => fragment!("input_rms", [Binding::read(2, "x"), Binding::read(6, "scale")]),
    }
}

/// Returns the fragments with `Lane` and `input8`: eight elements of a per-thread gemv's
/// input. Either each thread reads them separately, or four threads of a subgroup
/// together.
pub fn input8(together: bool) -> [Fragment; 2] {
    if together {
        [LANE_SUBGROUP, fragment!("input8_quad", [])]
    } else {
        [LANE, fragment!("input8_alone", [])]
    }
}

/// Returns the fragment that loads four f32, in 64-bit loads if `wide`.
pub fn load4(wide: bool) -> Fragment {
    if wide { fragment!("load_wide", []) } else { fragment!("load_plain", []) }
}

/// Returns the fragment for the outputs of a gemm thread: rows by columns.
///
/// # Panics
/// If there is no fragment for the block. The tables are part of the program.
pub fn gemm_block(rows: u32, columns: u32) -> Fragment {
    match (rows, columns) {
        (4, 4) => fragment!("gemm_block_4x4", []),
        (8, 4) => fragment!("gemm_block_8x4", []),
        (8, 8) => fragment!("gemm_block_8x8", []),
        _ => panic!("gemm has no blocks of {rows} x {columns}"),
    }
}

/// Returns the fragment for cooperative matrices of `size` by `size`, 8 or 16.
pub fn cooperative(size: u32) -> Fragment {
    match size {
        8 => fragment!("cooperative_8", [], ["f16", "wgpu_cooperative_matrix"]),
        16 => fragment!("cooperative_16", [], ["f16", "wgpu_cooperative_matrix"]),
        _ => panic!("no cooperative matrices of {size} x {size}"),
    }
}

/// Returns the fragment for rows that are a chunk of one sequence or a batch of several.
pub fn rows(rows: Rows) -> Fragment {
    match rows {
        Rows::Chunk => ROWS_CHUNK,
        Rows::Batch => ROWS_BATCH,
    }
}

/// Returns the fragment with `workgroup_sum` and `workgroup_max`.
pub fn reduce(strategy: Strategy) -> Fragment {
    match strategy {
        Strategy::Subgroup => fragment!("reduce_subgroup", []),
        Strategy::PerThread | Strategy::Workgroup => fragment!("reduce_workgroup", []),
    }
}

/// Returns the fragment with `turned`, which rotates a head by its row's position if
/// `apply`.
pub fn rope(apply: bool) -> Fragment {
    if apply { fragment!("rope", [Binding::read(14, "rope")]) } else { fragment!("rope_none", []) }
}

/// Returns the fragment with `note_overflow`. It records f16 overflow if `detect`.
pub fn overflow(detect: bool) -> Fragment {
    if detect {
        fragment!("overflow_note", [Binding::read_write(8, "overflow")])
    } else {
        fragment!("overflow_ignore", [])
    }
}

/// Returns the fragment for loads of `values` values of the cache: eight in the form of
/// [`pack_for_reading`], or four. Four f32 have the form of [`load4`].
pub fn kv_by(values: usize, dtype: DType, wide: bool) -> Fragment {
    match (values, dtype, wide) {
        (8, _, _) => fragment!("kv_by_8", []),
        (4, DType::F16, false) => fragment!("kv_by_4_f16", []),
        (4, DType::F16, true) => fragment!("kv_by_4_f16_wide", []),
        (4, DType::F32, _) => fragment!("kv_by_4_f32", []),
        _ => panic!("no load takes {values} values of the cache"),
    }
}

/// Returns the fragment with `kv_load` for one slab or for up to four.
pub fn kv_read(n_slabs: usize) -> Fragment {
    if n_slabs == 1 {
        fragment!("kv_read_1", [Binding::read(9, "kv0")])
    } else {
        fragment!(
            "kv_read_4",
            [
                Binding::read(9, "kv0"),
                Binding::read(10, "kv1"),
                Binding::read(11, "kv2"),
                Binding::read(12, "kv3")
            ]
        )
    }
}

/// Returns the fragment with `kv_store` for one slab or for up to four.
pub fn kv_write(n_slabs: usize) -> Fragment {
    if n_slabs == 1 {
        fragment!("kv_write_1", [Binding::read_write(9, "kv0")])
    } else {
        fragment!(
            "kv_write_4",
            [
                Binding::read_write(9, "kv0"),
                Binding::read_write(10, "kv1"),
                Binding::read_write(11, "kv2"),
                Binding::read_write(12, "kv3")
            ]
        )
    }
}
