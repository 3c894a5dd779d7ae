//! Cases of the append to the KV cache.

use std::fmt;

use super::data::{Random, batch, floats, input, pad_columns, record, step};
use super::paged::{Flag, KvShape, Pages};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{PAGE_SIZE, PagedKv, Row, SLABS_MAX, Step, StepRows, kv_append};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// Append of some rows to the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct KvAppendCase {
    /// Shape of the cache.
    pub kv: KvShape,
    /// Position of the first row.
    pub position: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// Whether the rows are a batch. Each row is then a separate sequence, whose pages
    /// begin at a separate index of the page table.
    pub batch: bool,
    /// Number planted in keys and values of some rows. If there is one, the f16 overflow
    /// flag is bound.
    pub planted: Option<f32>,
}

impl KvAppendCase {
    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let KvAppendCase { kv, position, n_rows, .. } = *self;
        let mut random = Random::new(5);
        let kv_len = position + n_rows;
        let pages = Pages::scattered(kv, kv_len, &mut random);
        let axis = Axis::grouped(kv.n_head + 2 * kv.n_kv_head, kv.head_dim);
        let mut qkv = random.uniform(n_rows * axis.len(), 4.0);
        self.plant(&mut qkv);
        let (mut outputs, mut slabs) = (Vec::new(), Vec::new());
        for expected in self.expected(&pages, &qkv) {
            let (output, slab) = Output::new(gpu, "slab", Format::Float(kv.dtype), &[], expected)?;
            outputs.push(output);
            slabs.push(slab);
        }
        let flag = match self.planted {
            Some(_) => Some(Flag::new(gpu, self.overflow_positions(&qkv))?),
            None => None,
        };
        let mut spare = Vec::new();
        for _ in kv.n_slabs..SLABS_MAX {
            spare.push(input(gpu, "spare slab", &[])?);
        }
        let qkv = floats(gpu, "qkv", &pad_columns(&qkv, axis))?;
        let page_table = input(gpu, "page_table", bytemuck::cast_slice(&pages.entries))?;
        let numbers =
            Step { n_rows: n_rows as u32, first_row: 0, position: position as u32, kv_len: kv_len as u32 };
        let step = step(gpu, numbers)?;
        let rows: Vec<Row> = (0..n_rows).map(|row| self.row(row)).collect();
        let batch = if self.batch { Some(batch(gpu, &rows)?) } else { None };
        let dispatches = record(gpu, |recorder| {
            let n_head = kv.n_head;
            let kv = PagedKv {
                page_table: &page_table,
                slabs: &slabs,
                dtype: kv.dtype,
                n_kv_head: kv.n_kv_head,
                head_dim: pad_row(kv.head_dim),
            };
            let rows = StepRows { step: (&step).into(), batch: batch.as_ref().map(Into::into) };
            let op = kv_append::KvAppend {
                rows,
                qkv: &qkv,
                kv,
                n_head,
                spare_slabs: &spare,
                overflow: flag.as_ref().map(Flag::bound),
            };
            kv_append::record(recorder, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "rounding to the cache's type, one unit: WGSL leaves the direction open",
            dispatches,
            work: Work { n_rows: numbers.n_rows, kv_len: numbers.kv_len },
            outputs: outputs.into_iter().zip(slabs).chain(flag.map(Flag::output)).collect(),
        })
    }

    /// Returns the batch row that appends at the same position as row `row` of a chunk.
    fn row(&self, row: usize) -> Row {
        let position = self.position + row;
        let first_page = row.min(position / PAGE_SIZE);
        let position = (position - first_page * PAGE_SIZE) as u32;
        Row { position, kv_len: position + 1, first_page: first_page as u32, unused: 0 }
    }

    /// Returns the number of elements in a row of q, k and v.
    fn row_width(&self) -> usize {
        (self.kv.n_head + 2 * self.kv.n_kv_head) * self.kv.head_dim
    }

    /// Plants the number in the middle row and in the last row: in an element of the
    /// first head's key and in an element of the last head's value.
    fn plant(&self, qkv: &mut [f32]) {
        let Some(number) = self.planted else { return };
        let (width, row_width) = (self.kv.n_head * self.kv.head_dim, self.row_width());
        for row in [self.n_rows / 2, self.n_rows - 1] {
            qkv[row * row_width + width] = number;
            qkv[(row + 1) * row_width - 1] = number;
        }
    }

    /// Returns the lowest positions at which a key and a value overflow f16.
    fn overflow_positions(&self, qkv: &[f32]) -> [Option<usize>; 2] {
        let KvShape { n_head, n_kv_head, head_dim, .. } = self.kv;
        [n_head, n_head + n_kv_head].map(|head| {
            let exceeds = |row: usize| {
                let part = &qkv[row * self.row_width() + head * head_dim..][..n_kv_head * head_dim];
                part.iter().any(|&x| reference::exceeds_f16(x))
            };
            let position =
                |row: usize| if self.batch { self.row(row).position as usize } else { self.position + row };
            (0..self.n_rows).filter(|&row| exceeds(row)).map(position).min()
        })
    }

    /// Returns the expected content of each slab. Everything except the appended rows
    /// must stay unchanged.
    fn expected(&self, pages: &Pages, qkv: &[f32]) -> Vec<Vec<Expected>> {
        let KvAppendCase { kv, position, n_rows, .. } = *self;
        let mut slabs = vec![vec![Expected::Untouched; pages.slab_elems()]; kv.n_slabs];
        let relative = if kv.dtype == DType::F16 { 1.0 / 1024.0 } else { 0.0 };
        // Absolute error of subnormal f16 values.
        let absolute = if kv.dtype == DType::F16 { 1.0 / f64::from(1 << 24) } else { 0.0 };
        for (part, head) in (0..2).flat_map(|part| (0..kv.n_kv_head).map(move |head| (part, head))) {
            let column = (kv.n_head + part * kv.n_kv_head + head) * kv.head_dim;
            let row = |i: usize| &qkv[i * self.row_width() + column..][..kv.head_dim];
            let rows: Vec<f32> = (0..n_rows).flat_map(row).copied().collect();
            let mut cache = vec![0.0; (position + n_rows) * kv.head_dim];
            reference::kv_append(&mut cache, &rows, position, kv.head_dim);
            for at in position..position + n_rows {
                let (slab, index) = pages.locate(part, at, head);
                let run = &mut slabs[slab][index..][..pad_row(kv.head_dim)];
                run.fill(Expected::exactly(0.0));
                for (element, &want) in run.iter_mut().zip(&cache[at * kv.head_dim..][..kv.head_dim]) {
                    if kv.dtype == DType::F16 && reference::exceeds_f16(want) {
                        // WGSL does not specify the result.
                        *element = Expected::Any;
                        continue;
                    }
                    let want = f64::from(want);
                    *element = Expected::Value { want, tolerance: want.abs() * relative + absolute };
                }
            }
        }
        slabs
    }
}

impl fmt::Display for KvAppendCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows={} at {}", self.kv, self.n_rows, self.position)?;
        if self.batch {
            write!(f, " batch")?;
        }
        self.planted.map_or(Ok(()), |number| write!(f, " with {number:e}"))
    }
}
