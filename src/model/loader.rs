//! Weights from a checkpoint to the GPU, through bounded staging.

use std::ops::Range;

use super::gpt2::{Gpt2Config, Layout, TensorSpec};
use super::progress::{LoadPhase, PLAN_STEPS, ProgressFn, report};
use crate::checkpoint::{Checkpoint, Reader, TensorInfo, convert_f16};
use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Gpu, GpuBuffer, MemoryGroup};
use crate::kernels::{Matrix, MatrixLayout, Piece};
use crate::tensor::{Axis, DType, ROW_ALIGN_ELEMS};

/// f32 elements that are read at once: with conversion and padding a few times
/// 4 MiB of host memory, whatever the model's size.
const BLOCK_ELEMS: usize = 1 << 20;

/// Weights of one block.
#[derive(Debug)]
pub struct LayerWeights {
    /// `[2, n_embd]`: weight, bias.
    pub ln_1: GpuBuffer,
    /// `[3 n_head head_dim, n_embd]` with its bias.
    pub c_attn: Linear,
    /// `[n_embd, n_head head_dim]` with its bias.
    pub c_proj: Linear,
    /// `[2, n_embd]`: weight, bias.
    pub ln_2: GpuBuffer,
    /// `[n_inner, n_embd]` with its bias.
    pub c_fc: Linear,
    /// `[n_embd, n_inner]` with its bias.
    pub mlp_proj: Linear,
}

/// A matrix with its bias.
#[derive(Debug)]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weights: Matrix,
    /// `[out_features]`, f32.
    pub bias: GpuBuffer,
}

/// All weights on the GPU.
#[derive(Debug)]
pub struct Weights {
    /// `[vocab_size, n_embd]`
    pub wte: Matrix,
    /// `[n_positions, n_embd]`
    pub wpe: Matrix,
    /// Blocks in order.
    pub layers: Vec<LayerWeights>,
    /// `[2, n_embd]`: weight, bias.
    pub ln_f: GpuBuffer,
    /// `[vocab_size, n_embd]`; `None` where the head shares `wte`.
    pub lm_head: Option<Matrix>,
}

impl Weights {
    /// The output head's matrix.
    #[must_use]
    pub fn head(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.wte)
    }

    /// Checks names and shapes, then loads all.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing, unexpected or wrongly shaped tensor or
    /// a value that `dtype` cannot hold; errors of reading and of the GPU.
    pub fn load(
        gpu: &Gpu,
        config: &Gpt2Config,
        checkpoint: &Checkpoint,
        dtype: DType,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let specs = config.tensors();
        let read = Count { done: 0, total: check(config, checkpoint, &specs)? };
        let uploaded = Count { done: 0, total: weight_bytes(config, dtype) };
        report(progress, LoadPhase::Plan, PLAN_STEPS, PLAN_STEPS)?;
        let mut loader = Loader {
            gpu,
            checkpoint,
            reader: checkpoint.reader(),
            dtype,
            specs: specs.into_iter(),
            block: Vec::new(),
            read,
            uploaded,
            progress,
        };
        // The order of the fields is that of Gpt2Config::tensors.
        let wte = loader.matrix()?;
        let wpe = loader.matrix()?;
        let mut layers = Vec::with_capacity(config.n_layer);
        for _ in 0..config.n_layer {
            layers.push(LayerWeights {
                ln_1: loader.vectors(2)?,
                c_attn: loader.linear()?,
                c_proj: loader.linear()?,
                ln_2: loader.vectors(2)?,
                c_fc: loader.linear()?,
                mlp_proj: loader.linear()?,
            });
        }
        let ln_f = loader.vectors(2)?;
        let lm_head = if config.tie_word_embeddings { None } else { Some(loader.matrix()?) };
        gpu.flush()?;
        loader.uploaded(0)?;
        Ok(Weights { wte, wpe, layers, ln_f, lm_head })
    }
}

/// The tensor of a spec, with or without the prefix.
fn find<'c>(checkpoint: &'c Checkpoint, name: &str) -> Option<&'c TensorInfo> {
    checkpoint.get(name).or_else(|| checkpoint.get(&format!("{PREFIX}{name}")))
}

const PREFIX: &str = "transformer.";

/// Compares the checkpoint with what the config asks for, without reading any
/// tensor.
///
/// # Errors
/// [`Error::Tensor`] that lists what is missing, unexpected or wrongly shaped.
pub fn check_tensors(config: &Gpt2Config, checkpoint: &Checkpoint) -> Result<()> {
    check(config, checkpoint, &config.tensors()).map(|_| ())
}

/// As [`check_tensors`]; returns the bytes to read.
fn check(config: &Gpt2Config, checkpoint: &Checkpoint, specs: &[TensorSpec]) -> Result<u64> {
    let mut bytes = 0;
    let mut problems = Vec::new();
    for spec in specs {
        match find(checkpoint, &spec.name) {
            None => problems.push((spec.name.clone(), format!("missing: expected shape {:?}", spec.shape()))),
            Some(info) if info.shape != spec.shape() => {
                let message = format!("wrong shape: expected {:?}, found {:?}", spec.shape(), info.shape);
                problems.push((info.name.clone(), message));
            }
            Some(info) if info.dtype.size_bytes().is_none() => {
                problems
                    .push((info.name.clone(), format!("dtype {}: expected F32, F16 or BF16", info.dtype)));
            }
            Some(info) => bytes += info.len_bytes(),
        }
    }
    let known: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    for info in checkpoint.tensors() {
        let name = info.name.strip_prefix(PREFIX).unwrap_or(&info.name);
        if !known.contains(name) && !config.ignores(name, &info.shape) {
            problems.push((info.name.clone(), format!("unexpected (shape {:?})", info.shape)));
        }
        if name != info.name && checkpoint.get(name).is_some() {
            problems.push((
                info.name.clone(),
                format!("{name} stands in the file as well: which of them counts?"),
            ));
        }
    }
    let Some((tensor, first)) = problems.first() else { return Ok(bytes) };
    let mut message = first.clone();
    let rest: Vec<_> = problems[1..].iter().map(|(name, problem)| format!("\n  {name}: {problem}")).collect();
    // A whole family of wrong tensors says no more than its first dozen.
    message.extend(rest.iter().take(12).map(String::as_str));
    if rest.len() > 12 {
        message.push_str(&format!("\n  and {} more", rest.len() - 12));
    }
    message.push_str("\nThe checkpoint and config.json do not belong together, or one of them is damaged.");
    Err(Error::tensor(tensor, message))
}

struct Loader<'a, 'p> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    reader: Reader<'a>,
    dtype: DType,
    specs: std::vec::IntoIter<TensorSpec>,
    block: Vec<f32>,
    read: Count,
    uploaded: Count,
    progress: &'a mut ProgressFn<'p>,
}

/// Bytes of a phase.
#[derive(Clone, Copy)]
struct Count {
    done: u64,
    total: u64,
}

impl<'a> Loader<'a, '_> {
    fn next(&mut self) -> (TensorSpec, &'a TensorInfo) {
        let spec = self.specs.next().expect("fields and specs have one order");
        let info = find(self.checkpoint, &spec.name).expect("the names were checked");
        (spec, info)
    }

    /// Counts elements of a tensor that were read.
    fn read(&mut self, elems: usize, info: &TensorInfo) -> Result<()> {
        self.read.done += (elems as u64 * info.len_bytes()) / (info.len_elems() as u64).max(1);
        report(self.progress, LoadPhase::Read, self.read.done, self.read.total)
    }

    /// Counts bytes that were handed to the GPU.
    fn uploaded(&mut self, bytes: u64) -> Result<()> {
        self.uploaded.done += bytes;
        report(self.progress, LoadPhase::Upload, self.uploaded.done, self.uploaded.total)
    }

    fn linear(&mut self) -> Result<Linear> {
        Ok(Linear { weights: self.matrix()?, bias: self.vectors(1)? })
    }

    /// The next `count` vectors, each padded, one behind the other in f32:
    /// they are small, and rounding them would cost digits for nothing.
    fn vectors(&mut self, count: usize) -> Result<GpuBuffer> {
        let mut all: Vec<f32> = Vec::new();
        let mut label = String::new();
        for _ in 0..count {
            let (spec, info) = self.next();
            let n = spec.rows.len();
            self.block.resize(n, 0.0);
            self.reader.read_block(info, 0..1, 0..n, &mut self.block)?;
            check_finite(info, &self.block, |i| i)?;
            let start = all.len();
            all.resize(start + spec.rows.padded_len(), 0.0);
            for (i, value) in self.block.iter().enumerate() {
                all[start + spec.rows.position(i)] = *value;
            }
            self.read(n, info)?;
            label = spec.name;
        }
        let data = bytemuck::cast_slice(&all);
        let buffer = self.gpu.allocate_with(&label, data, MemoryGroup::Weights)?;
        self.uploaded(data.len() as u64)?;
        Ok(buffer)
    }

    /// The next matrix, in pieces that fit a binding.
    fn matrix(&mut self) -> Result<Matrix> {
        let (spec, info) = self.next();
        let matrix = allocate_matrix(self.gpu, &spec, self.dtype)?;
        let n_columns = spec.columns.len();
        // Whole blocks of the layout, which lie in one run of memory each.
        let rows_at_once = (BLOCK_ELEMS / n_columns / Matrix::CUT_ROWS).max(1) * Matrix::CUT_ROWS;
        let cuts = matrix.pieces.iter().flat_map(|piece| {
            (0..piece.n_rows)
                .step_by(rows_at_once)
                .map(move |first| (piece, first..(first + rows_at_once).min(piece.n_rows)))
        });
        for (piece, cut) in cuts {
            let block = Block::new(&spec, piece, cut);
            let rows = block.rows.clone();
            self.block.resize(rows.len() * n_columns, 0.0);
            match spec.layout {
                Layout::Transposed => {
                    self.reader.read_block(info, 0..n_columns, rows.clone(), &mut self.block)?;
                }
                _ => self.reader.read_block(info, rows.clone(), 0..n_columns, &mut self.block)?,
            }
            self.read(rows.len() * n_columns, info)?;
            let bytes = match self.dtype {
                DType::F16 => {
                    let mut halves = vec![0u16; self.block.len()];
                    convert_f16(&self.block, &mut halves)
                        .map_err(|e| out_of_range(info, block.file_index(e.index), e.value))?;
                    block.upload(self.gpu, matrix.layout, &halves)?
                }
                DType::F32 => {
                    check_finite(info, &self.block, |i| block.file_index(i))?;
                    block.upload(self.gpu, matrix.layout, &self.block)?
                }
            };
            self.uploaded(bytes)?;
        }
        Ok(matrix)
    }
}

/// Some rows of a matrix, as they were read.
struct Block<'a> {
    spec: &'a TensorSpec,
    piece: &'a Piece,
    /// Rows of the piece, with padding.
    cut: Range<usize>,
    /// Rows of the file that stand there.
    rows: Range<usize>,
}

impl<'a> Block<'a> {
    fn new(spec: &'a TensorSpec, piece: &'a Piece, cut: Range<usize>) -> Self {
        let before = |row: usize| spec.rows.elements_before(piece.first_row + row);
        Block { spec, piece, rows: before(cut.start)..before(cut.end), cut }
    }

    /// Index within the tensor's file order of element `i` of the block.
    fn file_index(&self, i: usize) -> usize {
        match self.spec.layout {
            Layout::Transposed => {
                i / self.rows.len() * self.spec.rows.len() + self.rows.start + i % self.rows.len()
            }
            _ => self.rows.start * self.spec.columns.len() + i,
        }
    }

    /// Lays the values out with padding and uploads them; returns their bytes.
    fn upload<T: bytemuck::Pod>(&self, gpu: &Gpu, layout: MatrixLayout, values: &[T]) -> Result<u64> {
        let (rows, columns) = (self.spec.rows, self.spec.columns);
        let (n_rows, width) = (self.piece.n_rows, columns.padded_len());
        let (n_packs, start) = (width / ROW_ALIGN_ELEMS, self.cut.start * width);
        let mut out = vec![T::zeroed(); self.cut.len() * width];
        let transposed = self.spec.layout == Layout::Transposed;
        for (i, row) in self.rows.clone().enumerate() {
            let row = rows.position(row) - self.piece.first_row;
            for column in 0..columns.len() {
                let from = if transposed { column * self.rows.len() + i } else { i * columns.len() + column };
                let position = columns.position(column);
                let pack = layout.pack_index(row, position / ROW_ALIGN_ELEMS, n_rows, n_packs);
                out[pack * ROW_ALIGN_ELEMS + position % ROW_ALIGN_ELEMS - start] = values[from];
            }
        }
        let data = bytemuck::cast_slice(&out);
        gpu.upload(&self.piece.buffer, (start * size_of::<T>()) as u64, data)?;
        Ok(data.len() as u64)
    }
}

/// Buffers for a matrix, split by rows where a binding could not hold it.
fn allocate_matrix(gpu: &Gpu, spec: &TensorSpec, dtype: DType) -> Result<Matrix> {
    let n_columns = spec.columns.padded_len();
    let pieces = pieces(spec, dtype, gpu.max_binding_bytes())
        .into_iter()
        .map(|rows| {
            let bytes = (rows.len() * n_columns * dtype.size_bytes()) as u64;
            let buffer = gpu.allocate(&spec.name, bytes, BufferUse::Storage, MemoryGroup::Weights)?;
            Ok(Piece { first_row: rows.start, n_rows: rows.len(), buffer })
        })
        .collect::<Result<_>>()?;
    let layout = MatrixLayout::preferred_by(gpu.capabilities().strategy);
    Ok(Matrix { dtype, layout, n_rows: spec.rows.padded_len(), n_columns, pieces })
}

/// Row ranges of a matrix's pieces.
fn pieces(spec: &TensorSpec, dtype: DType, max_binding_bytes: u64) -> Vec<Range<usize>> {
    let n_rows = spec.rows.padded_len();
    let at_once = Matrix::rows_per_piece(spec.columns.padded_len(), dtype, max_binding_bytes);
    (0..n_rows).step_by(at_once).map(|first| first..(first + at_once).min(n_rows)).collect()
}

/// GPU bytes of all weights.
#[must_use]
pub fn weight_bytes(config: &Gpt2Config, dtype: DType) -> u64 {
    let elems = |axis: &Axis| axis.padded_len() as u64;
    config
        .tensors()
        .iter()
        .map(|spec| match spec.layout {
            Layout::Vector => elems(&spec.rows) * 4,
            _ => elems(&spec.rows) * elems(&spec.columns) * dtype.size_bytes() as u64,
        })
        .sum()
}

fn check_finite(info: &TensorInfo, values: &[f32], file_index: impl Fn(usize) -> usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => Err(not_finite(info, file_index(i), values[i])),
    }
}

fn not_finite(info: &TensorInfo, index: usize, value: f32) -> Error {
    Error::tensor(&info.name, format!("element {index} is {value}: the file is damaged or training diverged"))
}

fn out_of_range(info: &TensorInfo, index: usize, value: f32) -> Error {
    if !value.is_finite() {
        return not_finite(info, index, value);
    }
    let message = format!("element {index} is {value}, beyond f16's largest value of 65504: use --dtype f32");
    Error::tensor(&info.name, message)
}
