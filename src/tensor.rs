//! Element types and shapes. No wgpu here: every room may use this one.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Element type of weights or of the KV cache on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary16, two elements in a `u32`: no f16 feature is needed.
    #[default]
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl DType {
    /// Size of one element in bytes.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 => 4,
        }
    }

    /// The name used on the command line, in reports and in shader file names.
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

/// Rows on the GPU are padded to this many elements (16 bytes of f16), so that
/// every kernel reads whole 16-byte pieces and no inner loop has a ragged end.
pub const ROW_ALIGN_ELEMS: usize = 8;

/// `n` rounded up to [`ROW_ALIGN_ELEMS`].
#[must_use]
pub const fn pad_row(n: usize) -> usize {
    n.next_multiple_of(ROW_ALIGN_ELEMS)
}

/// How one axis of a matrix is laid out with padding: `groups` runs of `size`
/// used elements, each padded with zeros to `padded`.
///
/// A plain axis has one group; an axis of attention heads has one group a
/// head, so that each head starts on a 16-byte border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Number of runs.
    pub groups: usize,
    /// Used elements of a run.
    pub size: usize,
    /// Elements of a run with its padding.
    pub padded: usize,
}

impl Axis {
    /// One run of `size` elements, padded at its end.
    #[must_use]
    pub const fn plain(size: usize) -> Self {
        Axis { groups: 1, size, padded: pad_row(size) }
    }

    /// `groups` runs of `size` elements, each padded at its end.
    #[must_use]
    pub const fn grouped(groups: usize, size: usize) -> Self {
        Axis { groups, size, padded: pad_row(size) }
    }

    /// Elements without padding: the length of the axis in the checkpoint.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.groups * self.size
    }

    /// Whether the axis has no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements with padding: the length of the axis on the GPU.
    #[must_use]
    pub const fn padded_len(&self) -> usize {
        self.groups * self.padded
    }

    /// Where element `i` of the checkpoint's axis stands on the GPU.
    #[must_use]
    pub const fn position(&self, i: usize) -> usize {
        i / self.size * self.padded + i % self.size
    }

    /// How many elements of the checkpoint's axis stand before `position`, at most
    /// [`Axis::padded_len`].
    #[must_use]
    pub const fn elements_before(&self, position: usize) -> usize {
        let (group, offset) = (position / self.padded, position % self.padded);
        group * self.size + if offset < self.size { offset } else { self.size }
    }

    /// Which element of the checkpoint's axis stands at `position`; `None` in
    /// the padding.
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
    fn axis_positions_and_elements_are_inverse() {
        for axis in
            [Axis::plain(1), Axis::plain(8), Axis::plain(20), Axis::grouped(25, 3), Axis::grouped(3, 64)]
        {
            assert_eq!(axis.padded_len() % ROW_ALIGN_ELEMS, 0);
            let mut used = 0;
            for position in 0..axis.padded_len() {
                assert_eq!(axis.elements_before(position), used);
                if let Some(i) = axis.element(position) {
                    assert_eq!(axis.position(i), position);
                    used += 1;
                }
            }
            assert_eq!(used, axis.len());
            assert_eq!(axis.elements_before(axis.padded_len()), used);
        }
    }
}
