//! The values that a reader returns.

use std::fs;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors};
use wgpt::Error;
use wgpt::internals::checkpoint::{Checkpoint, SourceDType};

use crate::support::parts::{Part, Random, f32_part, half_part, open_bytes, oracle, serialized};

#[test]
fn every_bit_pattern_is_read_exactly_in_each_dtype() {
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let mut random = Random(1);
    let words: Vec<u8> = (0..4096).flat_map(|_| (random.next() as u32).to_le_bytes()).collect();
    let parts: [Part; 3] = [
        ("bf", Dtype::BF16, vec![256, 256], halves.clone()),
        ("h", Dtype::F16, vec![65536], halves),
        ("w", Dtype::F32, vec![64, 64], words),
    ];
    let checkpoint = open_bytes(&serialized(&parts)).unwrap();
    let dtypes: Vec<_> = checkpoint.tensors().iter().map(|t| t.dtype.clone()).collect();
    assert_eq!(dtypes, [SourceDType::Bf16, SourceDType::F16, SourceDType::F32]);
    let mut reader = checkpoint.reader();
    for (name, dtype, shape, data) in &parts {
        let tensor = checkpoint.get(name).unwrap();
        assert_eq!((&tensor.shape, tensor.len_bytes()), (shape, data.len() as u64));
        let (rows, cols) = if shape.len() == 1 { (1, shape[0]) } else { (shape[0], shape[1]) };
        let mut found = vec![0.5; tensor.len_elems()];
        reader.read_block(tensor, 0..rows, 0..cols, &mut found).unwrap();
        for (i, (found, expected)) in found.iter().zip(oracle(*dtype, data)).enumerate() {
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{name}[{i}]: {found:e}, expected {expected:e}");
        }
    }
    assert_eq!(checkpoint.total_bytes(), 2 * 2 * 65536 + 4 * 4096);
    assert!(checkpoint.get("x").is_none());
}

#[test]
fn any_block_equals_a_slice_of_the_whole() {
    let mut random = Random(2);
    // Small gaps, rows with gaps beyond 4 kB, rows longer than the 1 MiB staging buffer,
    // and sizes next to these. A first part of odd length leaves the next parts unaligned
    // in the file.
    let parts = [
        half_part("a_odd", Dtype::F16, &[7], &mut random),
        half_part("small", Dtype::F16, &[37, 11], &mut random),
        half_part("tall", Dtype::BF16, &[9000, 64], &mut random),
        f32_part("wide", &[40, 9000], &mut random),
        f32_part("wider_than_staging", &[3, 262_144 + 1000], &mut random),
        half_part("row", Dtype::F16, &[600_000], &mut random),
        f32_part("column", &[5000, 1], &mut random),
    ];
    let bytes = serialized(&parts);
    let from_file = open_bytes(&bytes).unwrap();
    let from_bytes = Checkpoint::from_bytes("demo", Arc::new(bytes)).unwrap();
    for (name, dtype, shape, data) in &parts {
        let (n_rows, n_cols) = if shape.len() == 1 { (1, shape[0]) } else { (shape[0], shape[1]) };
        let whole = oracle(*dtype, data);
        let mut blocks = vec![
            (0..n_rows, 0..n_cols),
            (0..n_rows, n_cols - 1..n_cols),
            (0..n_rows, 1.min(n_cols - 1)..n_cols),
            (0..0, 0..n_cols),
        ];
        for _ in 0..40 {
            let (r, c) = (random.below(n_rows), random.below(n_cols));
            let (end_r, end_c) = (r + random.below(n_rows - r + 1), c + random.below(n_cols - c + 1));
            blocks.extend([(r..end_r, c..end_c), (r..end_r, 0..n_cols), (0..n_rows, c..end_c)]);
        }
        for checkpoint in [&from_file, &from_bytes] {
            let tensor = checkpoint.get(name).unwrap();
            let mut reader = checkpoint.reader();
            for (rows, cols) in &blocks {
                let mut found = vec![f32::NAN; rows.len() * cols.len()];
                reader.read_block(tensor, rows.clone(), cols.clone(), &mut found).unwrap();
                let expected: Vec<f32> = rows
                    .clone()
                    .flat_map(|r| &whole[r * n_cols + cols.start..r * n_cols + cols.end])
                    .copied()
                    .collect();
                assert!(found == expected, "{name} rows {rows:?} columns {cols:?}");
            }
        }
    }
}

#[test]
fn the_error_of_a_missing_block_names_the_tensor() {
    let part = |name, dtype, shape: &[usize], n_bytes| (name, dtype, shape.to_vec(), vec![0; n_bytes]);
    let checkpoint = open_bytes(&serialized(&[
        part("mask", Dtype::U8, &[2, 3], 6),
        part("flag", Dtype::BOOL, &[1, 1, 2, 2], 4),
        part("cube", Dtype::F16, &[2, 2, 2], 16),
        part("scalar", Dtype::F32, &[], 4),
        part("none", Dtype::F32, &[0, 4], 0),
        part("w", Dtype::F32, &[2, 3], 24),
    ]))
    .unwrap();
    assert_eq!(checkpoint.get("mask").unwrap().dtype, SourceDType::Other("U8".to_owned()));
    let mut reader = checkpoint.reader();
    let mut fault = |name: &str, rows, cols, len| {
        let error = reader.read_block(checkpoint.get(name).unwrap(), rows, cols, &mut vec![0.0; len]);
        match error {
            Err(error @ Error::Tensor { .. }) => error.to_string(),
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(fault("mask", 0..1, 0..1, 1), "tensor mask: dtype U8: expected F32, F16 or BF16");
    assert!(fault("flag", 0..1, 0..1, 1).contains("dtype BOOL"));
    assert!(fault("cube", 0..1, 0..1, 1).contains("shape [2, 2, 2]"));
    assert!(fault("scalar", 0..1, 0..1, 1).contains("shape []"));
    assert!(fault("none", 0..1, 0..4, 4).contains("[0, 4]"));
    assert!(fault("w", 1..3, 0..3, 6).contains("rows 1..3"));
    assert!(fault("w", 0..2, 1..4, 6).contains("columns 1..4"));
    assert!(fault("w", 0..2, 0..3, 5).contains("into 5 elements"));
    let empty = checkpoint.get("none").unwrap();
    checkpoint.reader().read_block(empty, 0..0, 0..4, &mut []).unwrap();
}

#[test]
fn the_demo_model_reads_as_in_the_safetensors_crate() {
    static BYTES: &[u8] = include_bytes!("../../../weights/model.safetensors");
    let expected = SafeTensors::deserialize(BYTES).unwrap();
    let checkpoint = Checkpoint::from_bytes("demo", Arc::new(BYTES)).unwrap();
    assert_eq!(checkpoint.tensors().len(), expected.len());
    let mut reader = checkpoint.reader();
    for tensor in checkpoint.tensors() {
        let view = expected.tensor(&tensor.name).unwrap();
        assert_eq!(tensor.shape, view.shape());
        let n_cols = *tensor.shape.last().unwrap();
        let n_rows = tensor.len_elems() / n_cols;
        let mut found = vec![0.0; tensor.len_elems()];
        reader.read_block(tensor, 0..n_rows, 0..n_cols, &mut found).unwrap();
        assert!(found == oracle(view.dtype(), view.data()), "{}", tensor.name);
    }
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, serialized(&[f32_part("w", &[100, 100], &mut Random(4))])).unwrap();
    let checkpoint = Checkpoint::open_file(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(20_000).unwrap();
    let mut out = vec![0.0; 10_000];
    let error = checkpoint.reader().read_block(&checkpoint.tensors()[0], 0..100, 0..100, &mut out);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("model.safetensors: ended early") && text.contains("truncated"), "{text}");
}
