//! Tensors whose values are computed when they are read: weights of any shape, without a
//! file and without a copy in memory.

use super::source::Source;
use super::{Checkpoint, SourceDType, TensorInfo};
use crate::error::{Error, Result};

/// The values of a synthetic tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// The same value everywhere.
    Constant(f32),
    /// Bell-shaped values around 0 with this standard deviation. No value is more than
    /// 3.47 standard deviations from 0.
    Random {
        /// The standard deviation.
        std: f32,
    },
}

/// A tensor of [`Checkpoint::synthetic`].
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticTensor {
    /// The name. The values depend on it.
    pub name: String,
    /// The dimensions, row-major, outermost first.
    pub shape: Vec<usize>,
    /// The values.
    pub fill: Fill,
}

/// A function from element index to value, for one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    fill: Fill,
    seed: u64,
}

/// The increment of the counter: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The standard deviation of the sum of four uniform numbers from 0..=65535: the square
/// root of 4 (65536^2 - 1) / 12.
const SUM_STD: f32 = 37_837.227;

/// The mean of that sum: 4 * 65535 / 2.
const SUM_MEAN: i32 = 131_070;

/// SplitMix64's finaliser (Steele, Lea, Flood 2014; constants by Stafford).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns the seed of one tensor: FNV-1a over the name, mixed with the model's seed.
fn tensor_seed(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(hash.wrapping_add(seed.wrapping_mul(GAMMA)))
}

impl Values {
    pub(super) fn new(fill: Fill, seed: u64, name: &str) -> Self {
        Values { fill, seed: tensor_seed(seed, name) }
    }

    /// Writes the f32 values from element `first` on as little-endian bytes. A value
    /// depends only on its index, so any range can be read.
    pub(super) fn write(&self, first: u64, out: &mut [u8]) {
        match self.fill {
            Fill::Constant(value) => {
                out.chunks_exact_mut(4).for_each(|bytes| bytes.copy_from_slice(&value.to_le_bytes()));
            }
            Fill::Random { std } => {
                let scale = std / SUM_STD;
                let mut counter = self.seed.wrapping_add(first.wrapping_mul(GAMMA));
                for bytes in out.chunks_exact_mut(4) {
                    counter = counter.wrapping_add(GAMMA);
                    let value = sum_of_four(mix(counter)) as f32 * scale;
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
}

/// Returns the sum of the word's four 16-bit parts minus its mean. By the central limit
/// theorem, its distribution is close to normal. It uses no function whose last bit
/// depends on the platform.
fn sum_of_four(word: u64) -> i32 {
    const EVEN: u64 = 0x0000_FFFF_0000_FFFF;
    let pairs = (word & EVEN) + ((word >> 16) & EVEN);
    ((pairs >> 32) + (pairs & 0xFFFF_FFFF)) as i32 - SUM_MEAN
}

impl Checkpoint {
    /// Creates a checkpoint of F32 tensors that are in no file. The same seed gives the
    /// same values on every platform.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a name that occurs twice, or for a tensor of more than 2^64
    /// bytes.
    pub fn synthetic(mut tensors: Vec<SyntheticTensor>, seed: u64) -> Result<Self> {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::tensor(&twice[0].name, "is in the list of tensors twice"));
        }
        let mut checkpoint = Checkpoint { sources: Vec::new(), tensors: Vec::new() };
        for (source, SyntheticTensor { name, shape, fill }) in tensors.into_iter().enumerate() {
            let elems = shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim as u64));
            let Some(len_bytes) = elems.and_then(|n| n.checked_mul(4)) else {
                return Err(Error::tensor(&name, format!("shape {shape:?} exceeds 2^64 bytes")));
            };
            let values = Values::new(fill, seed, &name);
            checkpoint.sources.push(Source::synthetic(&name, len_bytes, values));
            checkpoint.tensors.push(TensorInfo {
                name,
                dtype: SourceDType::F32,
                shape,
                source,
                offset: 0,
                len_bytes,
            });
        }
        Ok(checkpoint)
    }

    /// Returns whether the values are computed, without a file.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        self.sources.iter().any(Source::is_synthetic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
        let tensor =
            SyntheticTensor { name: name.into(), shape: shape.to_vec(), fill: Fill::Random { std: 0.02 } };
        let checkpoint = Checkpoint::synthetic(vec![tensor], seed).unwrap();
        let [rows, columns] = *shape else { panic!("a matrix") };
        let mut out = vec![0.0; rows * columns];
        let info = checkpoint.get(name).unwrap();
        checkpoint.reader().read_block(info, 0..rows, 0..columns, &mut out).unwrap();
        out
    }

    #[test]
    fn values_have_the_given_deviation_and_depend_on_seed_and_name() {
        let values = random(7, "a", &[1000, 1000]);
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let moment = |power| values.iter().map(|&x| (f64::from(x) / 0.02).powi(power)).sum::<f64>() / n;
        // Five standard errors for a million values: the error of the mean is std / 1000,
        // that of the standard deviation 0.7 / 1000. A sum of four uniform numbers has a
        // fourth moment of 3 - 6 / 20.
        assert!(mean.abs() < 5.0 * 0.02 / 1000.0, "{mean}");
        assert!((moment(2).sqrt() - 1.0).abs() < 5.0 * 0.7 / 1000.0, "{}", moment(2));
        assert!((moment(4) - 2.7).abs() < 0.03, "{}", moment(4));
        assert!(values.iter().all(|x| x.abs() < 0.02 * 3.47));
        let distinct: std::collections::HashSet<u32> = values[..1000].iter().map(|x| x.to_bits()).collect();
        assert!(distinct.len() > 950, "{}", distinct.len());

        assert_eq!(values, random(7, "a", &[1000, 1000]));
        for other in [random(8, "a", &[1000, 1000]), random(7, "b", &[1000, 1000])] {
            let equal = values.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(equal < 100, "{equal} of {n} values are equal");
        }
    }

    #[test]
    fn the_values_of_a_seed_never_change() {
        // Benchmark records name a seed, so these bits must never change. A separate
        // Python program computed them.
        let bits: Vec<u32> = random(0, "wte.weight", &[1, 3]).iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [1_014_499_225, 1_020_623_559, 3_140_542_597]);
    }

    #[test]
    fn any_block_equals_its_part_of_the_tensor() {
        let tensor =
            SyntheticTensor { name: "w".into(), shape: vec![300, 1700], fill: Fill::Random { std: 1.0 } };
        let checkpoint = Checkpoint::synthetic(vec![tensor], 3).unwrap();
        let info = checkpoint.get("w").unwrap();
        let mut whole = vec![0.0; 300 * 1700];
        let mut reader = checkpoint.reader();
        reader.read_block(info, 0..300, 0..1700, &mut whole).unwrap();
        // Short gaps are read and dropped; long ones are skipped.
        for (rows, columns) in [(5..290, 3..1699), (0..300, 700..900), (299..300, 1699..1700)] {
            let mut block = vec![0.0; rows.len() * columns.len()];
            reader.read_block(info, rows.clone(), columns.clone(), &mut block).unwrap();
            for (row, values) in rows.zip(block.chunks(columns.len())) {
                assert_eq!(values, &whole[row * 1700..][columns.clone()], "row {row}");
            }
        }
    }

    #[test]
    fn impossible_tensors_are_refused() {
        let tensor = |name: &str, shape: &[usize]| SyntheticTensor {
            name: name.into(),
            shape: shape.to_vec(),
            fill: Fill::Constant(1.0),
        };
        let refused = |tensors| Checkpoint::synthetic(tensors, 0).unwrap_err().to_string();
        assert!(
            refused(vec![tensor("a", &[1]), tensor("a", &[2])]).contains("is in the list of tensors twice")
        );
        assert!(refused(vec![tensor("a", &[usize::MAX, 2])]).contains("exceeds 2^64 bytes"));
        let checkpoint = Checkpoint::synthetic(vec![tensor("b", &[2, 2]), tensor("a", &[1])], 0).unwrap();
        assert!(checkpoint.is_synthetic());
        assert_eq!(checkpoint.total_bytes(), 20);
        let mut out = [0.0; 4];
        let info = checkpoint.get("b").unwrap();
        checkpoint.reader().read_block(info, 0..2, 0..2, &mut out).unwrap();
        assert_eq!(out, [1.0; 4]);
    }
}
