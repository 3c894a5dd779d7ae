//! The weights on the GPU equal those in the file: each matrix is transposed, padded,
//! split and rounded as the kernels expect it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use wgpt::internals::checkpoint::{Checkpoint, ConfigJson, Folder};
use wgpt::internals::kernels::{Matrix, MatrixLayout};
use wgpt::internals::model::spec::{Layout, Role, Source, TensorSpec};
use wgpt::internals::model::{Decoder, Weights};
use wgpt::{DType, Gpu, GpuOptions, Strategy};

use crate::support::files;

/// Returns the index of element (row, column) in a piece.
fn place(matrix: &Matrix, n_rows: usize, row: usize, column: usize) -> usize {
    let width = matrix.n_columns;
    match matrix.layout {
        MatrixLayout::Rows => row * width + column,
        MatrixLayout::Blocks => {
            // A block has 64 rows, fewer at the end; each thread has eight neighbouring
            // rows. The order within a block is [half of the eight, pack, row of the
            // half, thread, element].
            let block = row / 64 * 64;
            let threads = (n_rows - block).min(64) / 8;
            let (thread, half, own) = ((row - block) / 8, row % 8 / 4, row % 4);
            let pack = half * (width / 8) + column / 8;
            block * width + ((pack * 4 + own) * threads + thread) * 8 + column % 8
        }
    }
}

/// Joins the pieces of a matrix to `[n_rows, n_columns]`, with padding.
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

/// Returns the values that the GPU must hold for a matrix made of tensors of the
/// checkpoint.
fn expected(checkpoint: &Checkpoint, config: &Decoder, spec: &TensorSpec, dtype: DType) -> Vec<f32> {
    let n_columns = spec.columns.len();
    let sources: Vec<Vec<f32>> = spec
        .sources
        .iter()
        .map(|source| {
            let prefixed = format!("{}{}", config.prefix, source.name);
            let info = checkpoint.get(&source.name).or_else(|| checkpoint.get(&prefixed)).unwrap();
            let mut values = vec![0.0; info.len_elems()];
            let shape = spec.shape(source);
            checkpoint.reader().read_block(info, 0..shape[0], 0..shape[1], &mut values).unwrap();
            values
        })
        .collect();
    let width = spec.columns.padded_len();
    let mut all = vec![0.0; spec.rows.padded_len() * width];
    for place in 0..spec.rows.padded_len() {
        let Some((source, row)) = spec.rows.source(place) else { continue };
        let (values, Source { rows, skipped, .. }) = (&sources[source], &spec.sources[source]);
        for column in 0..n_columns {
            let value = match spec.layout {
                Layout::Transposed => values[column * (rows + skipped) + row + skipped],
                _ => values[(row + skipped) * n_columns + column],
            };
            all[place * width + spec.columns.position(column)] = match dtype {
                DType::F32 => value,
                DType::F16 => half::f16::from_f32(value).to_f32(),
            };
        }
    }
    all
}

/// Loads and compares every matrix; returns the number of pieces of the embedding.
fn check(dir: &Path, dtype: DType, strategy: Strategy, max_binding_bytes: Option<u64>) -> usize {
    let gpu = Gpu::open(&GpuOptions { max_binding_bytes, strategy: Some(strategy), ..files::gpu() }).unwrap();
    let config = Decoder::from_json(&ConfigJson::of(&Folder::Dir(dir.to_owned())).unwrap()).unwrap();
    let checkpoint = Checkpoint::open_dir(dir).unwrap();
    let weights =
        Weights::load(&gpu, &config, &checkpoint, dtype, &mut |_| ControlFlow::Continue(())).unwrap();
    // In the order of the specs: embeddings, the matrices of each block, the head.
    let mut matrices: Vec<&Matrix> = vec![&weights.tokens];
    matrices.extend(&weights.positions);
    for layer in &weights.layers {
        matrices.extend([&layer.qkv, &layer.out, &layer.up, &layer.down].map(|linear| &linear.weights));
    }
    matrices.extend(&weights.lm_head);
    let specs = config.tensors();
    let specs: Vec<_> =
        specs.iter().filter(|spec| matches!(spec.role, Role::Matrix | Role::Residual)).collect();
    assert_eq!(specs.len(), matrices.len());
    for (spec, matrix) in specs.into_iter().zip(matrices) {
        let (found, expected) = (read_back(&gpu, matrix), expected(&checkpoint, &config, spec, dtype));
        let wrong = found.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(wrong, None, "{} {} as {dtype}, first wrong element", dir.display(), spec.name());
    }
    weights.tokens.pieces.len()
}

#[test]
fn every_matrix_on_the_gpu_equals_the_file() {
    // Heads of 3 padded to 8, bf16; an untied head; shards, f16, masks.
    let small: Vec<PathBuf> = ["tanh-25heads-bf16", "silu-epsilon1e-3", "all-at-once"]
        .iter()
        .map(|name| files::golden("gpt2-variants").join(name))
        // Heads in pieces of one tensor and of three, skipped rows, gates.
        .chain(["gpt_neox/parallel", "phi3/window9", "opt/relu", "llama/gqa-untied"].map(files::golden))
        .collect();
    // Both layouts.
    for strategy in [Strategy::PerThread, Strategy::Workgroup] {
        for dtype in [DType::F16, DType::F32] {
            for dir in &small {
                assert_eq!(check(dir, dtype, strategy, None), 1);
            }
            // Matrices of several read blocks, in one piece and in many: with whole
            // blocks of the layout, and with fewer rows than a block.
            let long = files::long_matrices_dir();
            assert_eq!(check(long, dtype, strategy, None), 1);
            assert!(check(long, dtype, strategy, Some(1_000_000)) > 10);
            assert!(check(long, dtype, strategy, Some(100_000)) > 100);
        }
    }
}
