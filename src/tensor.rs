//! Element types and shapes. This module does not use wgpu, so every module may use it.
//!
//! Kernels read f16 with `unpack2x16float`. There are no kernels with native f16 loads:
//! they are no faster on lavapipe, and on GPUs the conversion is one instruction.
//! Arithmetic is f32.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The element type of weights or of the KV cache on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary16, two elements per `u32`, so that no f16 feature is needed.
    #[default]
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl DType {
    /// Returns the size of one element in bytes.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn size_bytes(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 => 4,
        }
    }

    /// Returns the name used on the command line, in reports and in shader file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::F32 => "f32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "f16" => Ok(DType::F16),
            "f32" => Ok(DType::F32),
            _ => Err(Error::Input(format!("dtype {s:?}: expected f16 or f32"))),
        }
    }
}

/// Rows on the GPU are padded to a multiple of this many elements (16 bytes in f16).
/// Every kernel then reads whole 16-byte units, and no inner loop has a partial last
/// iteration.
pub const ROW_ALIGN_ELEMS: usize = 8;

/// Returns `n` rounded up to a multiple of [`ROW_ALIGN_ELEMS`].
#[must_use]
pub const fn pad_row(n: usize) -> usize {
    n.next_multiple_of(ROW_ALIGN_ELEMS)
}

/// The padded layout of one axis of a matrix: `groups` runs of `size` used elements, each
/// padded with zeros to `padded` elements.
///
/// A plain axis has one group. An axis of attention heads has one group per head, so that
/// each head starts on a 16-byte boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Number of runs.
    pub groups: usize,
    /// Used elements per run.
    pub size: usize,
    /// Elements per run, padding included.
    pub padded: usize,
}

impl Axis {
    /// Returns an axis of one run of `size` elements, padded at its end.
    #[must_use]
    pub const fn plain(size: usize) -> Self {
        Axis { groups: 1, size, padded: pad_row(size) }
    }

    /// Returns an axis of `groups` runs of `size` elements, each padded at its end.
    #[must_use]
    pub const fn grouped(groups: usize, size: usize) -> Self {
        Axis { groups, size, padded: pad_row(size) }
    }

    /// Returns the number of elements without padding: the length of the axis in the
    /// checkpoint.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.groups * self.size
    }

    /// Returns whether the axis has no elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of elements with padding: the length of the axis on the GPU.
    #[must_use]
    pub const fn padded_len(&self) -> usize {
        self.groups * self.padded
    }

    /// Returns the position on the GPU of element `i` of the checkpoint's axis.
    #[must_use]
    pub const fn position(&self, i: usize) -> usize {
        i / self.size * self.padded + i % self.size
    }

    /// Returns the element of the checkpoint's axis at `position`; `None` for padding.
    #[must_use]
    pub const fn element(&self, position: usize) -> Option<usize> {
        let (group, offset) = (position / self.padded, position % self.padded);
        if group < self.groups && offset < self.size { Some(group * self.size + offset) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_elements_of_an_axis_are_inverses() {
        for axis in
            [Axis::plain(1), Axis::plain(8), Axis::plain(20), Axis::grouped(25, 3), Axis::grouped(3, 64)]
        {
            assert_eq!(axis.padded_len() % ROW_ALIGN_ELEMS, 0);
            let mut used = 0;
            for position in 0..axis.padded_len() {
                if let Some(i) = axis.element(position) {
                    assert_eq!(axis.position(i), position);
                    used += 1;
                }
            }
            assert_eq!(used, axis.len());
        }
    }
}
