//! Files of tensors, written by the safetensors crate from seeded values or by hand.

use std::collections::HashMap;
use std::fs;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use wgpt::Error;
use wgpt::internals::checkpoint::Checkpoint;

/// splitmix64 (Steele, Lea and Flood 2014): seeded, with the same output on every
/// platform.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A tensor to write: name, dtype, shape, little-endian bytes.
pub type Part = (&'static str, Dtype, Vec<usize>, Vec<u8>);

pub fn serialized(parts: &[Part]) -> Vec<u8> {
    let views = parts
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).unwrap()
}

pub fn f32_part(name: &'static str, shape: &[usize], random: &mut Random) -> Part {
    let n: usize = shape.iter().product();
    // Any bits except those of a NaN, so values compare with ==.
    let data = (0..n).flat_map(|_| (random.next() as u32 & 0xBF7F_FFFF).to_le_bytes()).collect();
    (name, Dtype::F32, shape.to_vec(), data)
}

pub fn half_part(name: &'static str, dtype: Dtype, shape: &[usize], random: &mut Random) -> Part {
    let n: usize = shape.iter().product();
    let data = (0..n).flat_map(|_| (random.next() as u16 & 0xBBFF).to_le_bytes()).collect();
    (name, dtype, shape.to_vec(), data)
}

/// Returns the values by the `half` crate's scalar conversion.
pub fn oracle(dtype: Dtype, data: &[u8]) -> Vec<f32> {
    let halves = data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => halves.map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves.map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        other => panic!("no oracle for {other}"),
    }
}

/// Returns a file with the given header.
pub fn raw(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

pub fn open_bytes(bytes: &[u8]) -> wgpt::Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open_file(&path)
}

/// Returns the message of an error that must be [`Error::Model`].
pub fn model_error(result: wgpt::Result<Checkpoint>) -> String {
    match result {
        Err(error @ Error::Model { .. }) => error.to_string(),
        other => panic!("expected Error::Model, found {other:?}"),
    }
}
