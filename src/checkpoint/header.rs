//! Parses the header of a safetensors file and checks it against the file.
//!
//! Layout: a little-endian `u64` with the header length `n`, then `n` bytes of JSON
//! `{"name": {"dtype": "F16", "shape": [..], "data_offsets": [begin, end]}}` with offsets
//! counted from the end of the header, then the data without holes to the end of the
//! file.
//! holes to the end of the file.

use std::fmt;
use std::io::BufReader;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::entries::Entries;
use super::source::{Source, Stretch};
use super::{SourceDType, TensorInfo};
use crate::error::{Error, Result};

/// The format's own limit on the size of a header in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Size of the length field before the header in bytes.
const LENGTH_BYTES: u64 = 8;

/// Maximum number of dimensions of a tensor; weights of language models have up to four.
const MAX_RANK: usize = 8;

#[derive(Deserialize)]
struct RawInfo {
    dtype: String,
    shape: Dims,
    data_offsets: [u64; 2],
}

/// Reads the header of `source`. Returns its tensors sorted by name, each with
/// `source_index`. The JSON is parsed as a stream and is never completely in memory.
pub(super) fn read(source: &Source, source_index: usize) -> Result<Vec<TensorInfo>> {
    let data_start = data_start(source)?;
    let json = BufReader::new(Stretch { source, offset: LENGTH_BYTES, end: data_start });
    let entries: Entries<RawInfo> = serde_json::from_reader(json).map_err(|error| {
        if error.is_io() {
            return source.read_error(error.into());
        }
        Error::model(
            source.name(),
            format!("the safetensors header is damaged: {error}; download the file again"),
        )
    })?;
    let mut tensors = Vec::with_capacity(entries.0.len());
    for (name, raw) in entries.0 {
        tensors.push(checked(source, source_index, data_start, name, raw)?);
    }
    check_layout(source, data_start, &tensors)?;
    Ok(tensors)
}

/// Returns the offset of the data, computed from the length field before the header.
fn data_start(source: &Source) -> Result<u64> {
    let found = source.len_bytes();
    let mut length = [0; LENGTH_BYTES as usize];
    if found < LENGTH_BYTES {
        return Err(truncated(source, "at least 8"));
    }
    source.read_exact_at(0, &mut length).map_err(|error| source.read_error(error))?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        let message = match other_format(&length) {
            Some(other) => other.to_owned(),
            None => format!(
                "its first 8 bytes announce a header of {header_bytes} bytes, but the safetensors format \
                 allows {MAX_HEADER_BYTES}: the file is damaged or not a safetensors file; download it again"
            ),
        };
        return Err(Error::model(source.name(), message));
    }
    let data_start = LENGTH_BYTES + header_bytes;
    if data_start > found {
        return Err(truncated(source, &format!("at least {data_start}")));
    }
    Ok(data_start)
}

fn truncated(source: &Source, expected: &str) -> Error {
    let found = source.len_bytes();
    Error::model(
        source.name(),
        format!(
            "the safetensors file is truncated: expected {expected} bytes, found {found}; download it again"
        ),
    )
}

/// Returns the message for a file of another format. Such files often have a safetensors
/// name. Read as a header length, the first bytes of each such format are far above the
/// limit.
fn other_format(first: &[u8; 8]) -> Option<&'static str> {
    if first == b"version " {
        Some("this is a Git LFS pointer, not the model itself; run `git lfs pull` or download the file")
    } else if first.starts_with(b"GGUF") {
        Some("this is a GGUF file, which wgpt does not read; use the model's safetensors files")
    } else if first.starts_with(b"PK\x03\x04") {
        Some("this is a PyTorch (zip) file; save the model as safetensors instead")
    } else {
        None
    }
}

/// Checks the numbers of one entry alone. [`check_layout`] ensures that the tensor is
/// within the file.
fn checked(
    source: &Source,
    source_index: usize,
    data_start: u64,
    name: String,
    raw: RawInfo,
) -> Result<TensorInfo> {
    let damaged = |what: String| {
        Error::model(
            source.name(),
            format!("tensor {name:?}: {what}; the file is damaged, download it again"),
        )
    };
    let shape = raw.shape.0;
    let dtype = SourceDType::from_name(raw.dtype);
    let [begin, end] = raw.data_offsets;
    let len_elems = shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
    let (Some(len_elems), Some(len_bytes), Some(offset)) =
        (len_elems, end.checked_sub(begin), begin.checked_add(data_start))
    else {
        return Err(damaged(format!("shape {shape:?} with data from byte {begin} to {end} is not possible")));
    };
    if let Some(bits) = dtype.bits()
        && (len_elems as u64).checked_mul(bits as u64) != len_bytes.checked_mul(8)
    {
        return Err(damaged(format!(
            "shape {shape:?} of {dtype} needs {len_elems} x {bits} bits, but the header gives it {len_bytes} \
             bytes"
        )));
    }
    Ok(TensorInfo { name, dtype, shape, source: source_index, offset, len_bytes })
}

/// Checks that the tensors fill the file from the end of the header to the end of the
/// file, without a hole or an overlap.
fn check_layout(source: &Source, data_start: u64, tensors: &[TensorInfo]) -> Result<()> {
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| (tensor.offset, tensor.len_bytes));
    let mut end = data_start;
    for tensor in by_offset {
        if tensor.offset != end {
            return Err(Error::model(
                source.name(),
                format!(
                    "tensor {:?} begins at byte {}, but the one before it ends at {end}: the header has {}; \
                     the file is damaged, download it again",
                    tensor.name,
                    tensor.offset,
                    if tensor.offset < end { "overlapping tensors" } else { "a hole" }
                ),
            ));
        }
        // An end beyond u64 saturates and is then reported as a truncated file.
        end = tensor.offset.saturating_add(tensor.len_bytes);
    }
    let found = source.len_bytes();
    if found < end {
        return Err(truncated(source, &end.to_string()));
    }
    if found > end {
        return Err(Error::model(
            source.name(),
            format!(
                "the tensors end at byte {end}, but the file has {found} bytes: {} too many; download it again",
                found - end
            ),
        ));
    }
    Ok(())
}

/// A shape of at most [`MAX_RANK`] dimensions. A longer shape is rejected before it takes
/// much memory.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(DimsVisitor)
    }
}

struct DimsVisitor;

impl<'de> Visitor<'de> for DimsVisitor {
    type Value = Dims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
        let mut dims = Vec::new();
        while let Some(dim) = seq.next_element()? {
            if dims.len() == MAX_RANK {
                return Err(A::Error::custom(format_args!("a tensor of more than {MAX_RANK} dimensions")));
            }
            dims.push(dim);
        }
        Ok(Dims(dims))
    }
}
