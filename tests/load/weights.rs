//! What lies on the GPU is what stands in the file: each matrix turned, padded,
//! split and rounded as the kernels expect it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use wgpt::checkpoint::{Checkpoint, ConfigJson};
use wgpt::gpu::{Gpu, GpuOptions, Strategy};
use wgpt::kernels::{Matrix, MatrixLayout};
use wgpt::model::gpt2::{Layout, TensorSpec};
use wgpt::model::{Decoder, Weights};
use wgpt::tensor::DType;

use crate::files;
use crate::heap::alone;

/// Where element (row, column) of a piece must lie.
fn place(matrix: &Matrix, n_rows: usize, row: usize, column: usize) -> usize {
    let width = matrix.n_columns;
    match matrix.layout {
        MatrixLayout::Rows => row * width + column,
        MatrixLayout::Blocks => {
            // Blocks of 64 rows, or what is left; in a block [pack, row of the thread, thread, element].
            let block = row / 64 * 64;
            let threads = (n_rows - block).min(64) / 8;
            let (thread, own) = ((row - block) / 8, row % 8);
            block * width + ((column / 8 * 8 + own) * threads + thread) * 8 + column % 8
        }
    }
}

/// The whole matrix from its pieces, `[n_rows, n_columns]` with padding.
fn read_back(gpu: &Gpu, matrix: &Matrix) -> Vec<f32> {
    let mut all = Vec::new();
    let row_bytes = matrix.n_columns * matrix.dtype.size_bytes();
    for piece in &matrix.pieces {
        assert_eq!(piece.first_row * matrix.n_columns, all.len(), "pieces follow one another");
        let bytes = &gpu.read_buffer(&piece.buffer).unwrap()[..piece.n_rows * row_bytes];
        let values: Vec<f32> = match matrix.dtype {
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            DType::F16 => bytes
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32())
                .collect(),
        };
        for row in 0..piece.n_rows {
            all.extend((0..matrix.n_columns).map(|column| values[place(matrix, piece.n_rows, row, column)]));
        }
    }
    assert_eq!(all.len(), matrix.n_rows * matrix.n_columns);
    all
}

/// What the GPU must hold for a tensor of the checkpoint.
fn expected(checkpoint: &Checkpoint, spec: &TensorSpec, dtype: DType) -> Vec<f32> {
    let info =
        checkpoint.get(&spec.name).or_else(|| checkpoint.get(&format!("transformer.{}", spec.name))).unwrap();
    let mut values = vec![0.0; info.len_elems()];
    let shape = spec.shape();
    checkpoint.reader().read_block(info, 0..shape[0], 0..shape[1], &mut values).unwrap();
    let (n_rows, n_columns) = (spec.rows.len(), spec.columns.len());
    let mut all = vec![0.0; spec.rows.padded_len() * spec.columns.padded_len()];
    for row in 0..n_rows {
        for column in 0..n_columns {
            let value = match spec.layout {
                Layout::Transposed => values[column * n_rows + row],
                _ => values[row * n_columns + column],
            };
            let place = spec.rows.position(row) * spec.columns.padded_len() + spec.columns.position(column);
            all[place] = match dtype {
                DType::F32 => value,
                DType::F16 => half::f16::from_f32(value).to_f32(),
            };
        }
    }
    all
}

/// Loads and compares every matrix; returns the pieces of the embedding.
fn check(dir: &Path, dtype: DType, strategy: Strategy, max_binding_bytes: Option<u64>) -> usize {
    let gpu = Gpu::open(&GpuOptions { max_binding_bytes, strategy: Some(strategy), ..files::gpu() }).unwrap();
    let config = Decoder::from_json(&ConfigJson::from_file(&dir.join("config.json")).unwrap()).unwrap();
    let checkpoint = Checkpoint::open_dir(dir).unwrap();
    let weights =
        Weights::load(&gpu, &config, &checkpoint, dtype, &mut |_| ControlFlow::Continue(())).unwrap();
    let specs = config.tensors();
    let compare = |name: &str, matrix: &Matrix| {
        let spec = specs.iter().find(|spec| spec.name == name).unwrap();
        let (found, expected) = (read_back(&gpu, matrix), expected(&checkpoint, spec, dtype));
        let wrong = found.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(wrong, None, "{} {name} as {dtype}, first wrong element", dir.display());
    };
    compare("wte.weight", &weights.wte);
    compare("wpe.weight", &weights.wpe);
    for (i, layer) in weights.layers.iter().enumerate() {
        compare(&format!("h.{i}.attn.c_attn.weight"), &layer.c_attn.weights);
        compare(&format!("h.{i}.attn.c_proj.weight"), &layer.c_proj.weights);
        compare(&format!("h.{i}.mlp.c_fc.weight"), &layer.c_fc.weights);
        compare(&format!("h.{i}.mlp.c_proj.weight"), &layer.mlp_proj.weights);
    }
    if let Some(head) = &weights.lm_head {
        compare("lm_head.weight", head);
    }
    weights.wte.pieces.len()
}

#[test]
fn every_matrix_arrives_as_the_file_holds_it() {
    let _alone = alone();
    // Heads of 3 padded to 8, bf16; an untied head; shards, f16, masks.
    let small: Vec<PathBuf> = ["tanh-25heads-bf16", "silu-epsilon1e-3", "all-at-once"]
        .iter()
        .map(|name| files::golden("gpt2-variants").join(name))
        .collect();
    // Both layouts.
    for strategy in [Strategy::PerThread, Strategy::Workgroup] {
        for dtype in [DType::F16, DType::F32] {
            for dir in &small {
                assert_eq!(check(dir, dtype, strategy, None), 1);
            }
            // Matrices of several read blocks, in one piece and in many: whole
            // blocks of the layout, and fewer rows than a block has.
            let long = files::long_matrices_dir();
            assert_eq!(check(long, dtype, strategy, None), 1);
            assert!(check(long, dtype, strategy, Some(1_000_000)) > 10);
            assert!(check(long, dtype, strategy, Some(100_000)) > 100);
        }
    }
}
