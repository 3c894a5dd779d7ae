//! Loads weights from a checkpoint to the GPU, with bounded host memory.

mod rows;

use std::collections::HashMap;

use super::decoder::Decoder;
use super::progress::{LoadPhase, PLAN_STEPS, ProgressFn, report};
use super::spec::{LayerPart, Layout, Param, Place, Source, TensorSpec};
use crate::checkpoint::{Checkpoint, Reader, TensorInfo, convert_f16};
use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Gpu, GpuBuffer, MemoryGroup};
use crate::kernels::{Matrix, MatrixLayout, Piece};
use crate::tensor::DType;
use rows::{Block, Run};

/// Number of f32 elements read at once. With conversion and padding, loading takes a few
/// times 4 MiB of host memory, whatever the model's size.
const BLOCK_ELEMS: usize = 1 << 20;

/// Weights of one block. A norm's buffer is `[n_embd]`: weights; a layer norm's is
/// `[2, n_embd]`: weights, then biases.
#[derive(Debug)]
pub struct LayerWeights {
    /// The norm before attention.
    pub attention_norm: GpuBuffer,
    /// `[(n_head + 2 n_kv_head) head_dim, n_embd]`
    pub qkv: Linear,
    /// `[2, head_dim]`: the norms of q heads and of k heads.
    pub qk_norm: Option<GpuBuffer>,
    /// `[n_embd, n_head head_dim]`
    pub out: Linear,
    /// The norm after attention, before the residual sum.
    pub after_attention: Option<GpuBuffer>,
    /// The norm before the MLP; `None` if it is the attention norm.
    pub mlp_norm: Option<GpuBuffer>,
    /// `[n_inner, n_embd]`; with a gate `[2 n_inner, n_embd]`, with four rows of the gate
    /// and four rows of up in turn.
    pub up: Linear,
    /// `[n_embd, n_inner]`
    pub down: Linear,
    /// The norm after the MLP, before the residual sum.
    pub after_mlp: Option<GpuBuffer>,
}

/// A matrix with its bias.
#[derive(Debug)]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weights: Matrix,
    /// `[out_features]`, f32.
    pub bias: Option<GpuBuffer>,
}

/// All weights on the GPU.
#[derive(Debug)]
pub struct Weights {
    /// `[vocab_size, n_embd]`
    pub tokens: Matrix,
    /// `[n_positions, n_embd]`, if positions are learned.
    pub positions: Option<Matrix>,
    /// The blocks, in order.
    pub layers: Vec<LayerWeights>,
    /// The norm before the head.
    pub final_norm: GpuBuffer,
    /// `[vocab_size, n_embd]`; `None` if the head shares `tokens`.
    pub lm_head: Option<Matrix>,
    /// `[vocab_size]`, f32.
    pub lm_head_bias: Option<GpuBuffer>,
}

impl Weights {
    /// Returns the output head's matrix.
    #[must_use]
    pub fn head(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.tokens)
    }

    /// Checks names and shapes, then loads all tensors.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing, unexpected or wrongly shaped tensor, or a value
    /// that `dtype` cannot hold; [`Error::Cancelled`]; errors of reading and of the GPU.
    pub fn load(
        gpu: &Gpu,
        config: &Decoder,
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
            prefix: config.prefix,
            reader: checkpoint.reader(),
            dtype,
            specs: specs.into_iter().map(|spec| (spec.place, spec)).collect(),
            block: Vec::new(),
            read,
            uploaded,
            progress,
        };
        let tokens = required(loader.matrix(Place::Tokens)?);
        let positions = loader.matrix(Place::Positions)?;
        let layers = (0..config.n_layer).map(|layer| loader.layer(layer)).collect::<Result<_>>()?;
        let final_norm = required(loader.norm(Place::FinalNorm)?);
        let lm_head = loader.matrix(Place::Head(Param::Weight))?;
        let lm_head_bias = loader.vectors(&[Place::Head(Param::Bias)])?;
        debug_assert!(loader.specs.is_empty(), "a tensor was not loaded: {:?}", loader.specs.keys());
        gpu.flush()?;
        loader.uploaded(0)?;
        Ok(Weights { tokens, positions, layers, final_norm, lm_head, lm_head_bias })
    }
}

/// Finds a tensor by name, with or without the prefix.
fn find<'c>(checkpoint: &'c Checkpoint, prefix: &str, name: &str) -> Option<&'c TensorInfo> {
    checkpoint.get(name).or_else(|| checkpoint.get(&format!("{prefix}{name}")))
}

/// Compares the checkpoint's tensors with those of the config, without reading data.
///
/// # Errors
/// [`Error::Tensor`], which lists the missing, unexpected and wrongly shaped tensors.
pub fn check_tensors(config: &Decoder, checkpoint: &Checkpoint) -> Result<()> {
    check(config, checkpoint, &config.tensors()).map(|_| ())
}

/// As [`check_tensors`], but returns the number of bytes to read.
fn check(config: &Decoder, checkpoint: &Checkpoint, specs: &[TensorSpec]) -> Result<u64> {
    let mut bytes = 0;
    let mut problems = Vec::new();
    let mut known = std::collections::HashSet::new();
    let sources = specs.iter().flat_map(|spec| spec.sources.iter().map(move |source| (spec, source)));
    for (spec, source) in sources {
        known.insert(source.name.as_str());
        let shape = spec.shape(source);
        match find(checkpoint, config.prefix, &source.name) {
            None => problems.push((source.name.clone(), format!("missing: expected shape {shape:?}"))),
            Some(info) if info.shape != shape => {
                let message = format!("wrong shape: expected {shape:?}, found {:?}", info.shape);
                problems.push((info.name.clone(), message));
            }
            Some(info) if info.dtype.size_bytes().is_none() => {
                problems
                    .push((info.name.clone(), format!("dtype {}: expected F32, F16 or BF16", info.dtype)));
            }
            Some(info) => bytes += info.len_bytes(),
        }
    }
    for info in checkpoint.tensors() {
        let name = info.name.strip_prefix(config.prefix).unwrap_or(&info.name);
        if !known.contains(name) && !config.ignores(name, &info.shape) {
            problems.push((info.name.clone(), format!("unexpected (shape {:?})", info.shape)));
        }
        if name != info.name && checkpoint.get(name).is_some() {
            problems.push((
                info.name.clone(),
                format!(
                    "the file also has {name}, the same tensor without the prefix: keep only one of them"
                ),
            ));
        }
    }
    let Some((tensor, first)) = problems.first() else { return Ok(bytes) };
    let mut message = first.clone();
    let rest: Vec<_> = problems[1..].iter().map(|(name, problem)| format!("\n  {name}: {problem}")).collect();
    // If a whole family of tensors is wrong, a dozen examples are enough.
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
    prefix: &'static str,
    reader: Reader<'a>,
    dtype: DType,
    /// The tensors that are not loaded yet.
    specs: HashMap<Place, TensorSpec>,
    block: Vec<f32>,
    read: Count,
    uploaded: Count,
    progress: &'a mut ProgressFn<'p>,
}

/// The progress of a phase, in bytes.
#[derive(Clone, Copy)]
struct Count {
    done: u64,
    total: u64,
}

impl<'a> Loader<'a, '_> {
    fn info(&self, source: &Source) -> &'a TensorInfo {
        find(self.checkpoint, self.prefix, &source.name).expect("the names were checked")
    }

    /// Counts elements of a tensor that were read, and reports progress.
    fn read(&mut self, elems: usize, info: &TensorInfo) -> Result<()> {
        self.read.done += (elems as u64 * info.len_bytes()) / (info.len_elems() as u64).max(1);
        report(self.progress, LoadPhase::Read, self.read.done, self.read.total)
    }

    /// Counts bytes that were uploaded to the GPU, and reports progress.
    fn uploaded(&mut self, bytes: u64) -> Result<()> {
        self.uploaded.done += bytes;
        report(self.progress, LoadPhase::Upload, self.uploaded.done, self.uploaded.total)
    }

    fn layer(&mut self, layer: usize) -> Result<LayerWeights> {
        let place = |part| move |param| Place::Layer(layer, part, param);
        let [q_norm, k_norm] = [LayerPart::QNorm, LayerPart::KNorm].map(|part| place(part)(Param::Weight));
        Ok(LayerWeights {
            attention_norm: required(self.norm(place(LayerPart::AttentionNorm))?),
            qkv: self.linear(place(LayerPart::Qkv))?,
            qk_norm: self.vectors(&[q_norm, k_norm])?,
            out: self.linear(place(LayerPart::Out))?,
            after_attention: self.norm(place(LayerPart::AfterAttention))?,
            mlp_norm: self.norm(place(LayerPart::MlpNorm))?,
            up: self.linear(place(LayerPart::Up))?,
            down: self.linear(place(LayerPart::Down))?,
            after_mlp: self.norm(place(LayerPart::AfterMlp))?,
        })
    }

    /// Loads a norm: its weights, then its bias if it has one.
    fn norm(&mut self, place: impl Fn(Param) -> Place) -> Result<Option<GpuBuffer>> {
        self.vectors(&[Param::Weight, Param::Bias].map(place))
    }

    /// Loads a matrix, and its bias if it has one.
    fn linear(&mut self, place: impl Fn(Param) -> Place) -> Result<Linear> {
        let weights = required(self.matrix(place(Param::Weight))?);
        Ok(Linear { weights, bias: self.vectors(&[place(Param::Bias)])? })
    }

    /// Loads the vectors of some places into one buffer in f32, one after the other, each
    /// padded; `None` if the model has none of them. They are small, and rounding them
    /// would lose precision without a benefit.
    fn vectors(&mut self, places: &[Place]) -> Result<Option<GpuBuffer>> {
        let mut all: Vec<f32> = Vec::new();
        let mut label = String::new();
        for place in places {
            let Some(spec) = self.specs.remove(place) else { continue };
            let mut sources = Vec::new();
            for source in &spec.sources {
                let info = self.info(source);
                let mut values = vec![0.0; source.rows];
                self.reader.read_block(info, 0..1, 0..source.rows, &mut values)?;
                check_finite(info, &values, |i| i)?;
                self.read(source.rows, info)?;
                sources.push(values);
            }
            let distance = if spec.plus_one { 1.0 } else { 0.0 };
            let value = |row| {
                spec.rows.source(row).map_or(0.0, |(source, i): (usize, usize)| sources[source][i] + distance)
            };
            all.extend((0..spec.rows.padded_len()).map(value));
            label = spec.name().to_owned();
        }
        if all.is_empty() {
            return Ok(None);
        }
        let data = bytemuck::cast_slice(&all);
        let buffer = self.gpu.allocate_with(&label, data, MemoryGroup::Weights)?;
        self.uploaded(data.len() as u64)?;
        Ok(Some(buffer))
    }

    /// Loads a matrix, in pieces that fit a binding; `None` if the model has none at this
    /// place.
    fn matrix(&mut self, place: Place) -> Result<Option<Matrix>> {
        let Some(spec) = self.specs.remove(&place) else { return Ok(None) };
        let matrix = allocate_matrix(self.gpu, &spec, self.dtype)?;
        // Reads whole blocks of the layout, each of which is contiguous in memory.
        let rows_at_once = (BLOCK_ELEMS / spec.columns.len() / Matrix::CUT_ROWS).max(1) * Matrix::CUT_ROWS;
        for piece in &matrix.pieces {
            for first in (0..piece.n_rows).step_by(rows_at_once) {
                let cut = first..(first + rows_at_once).min(piece.n_rows);
                let block = Block { spec: &spec, piece, cut, layout: matrix.layout };
                let bytes = match self.dtype {
                    DType::F16 => self.block(&block, |info, run, values| {
                        let mut halves = vec![0u16; values.len()];
                        convert_f16(values, &mut halves)
                            .map_err(|e| out_of_range(info, run.file_index(&spec, e.index), e.value))?;
                        Ok(halves)
                    })?,
                    DType::F32 => self.block(&block, |info, run, values| {
                        check_finite(info, values, |i| run.file_index(&spec, i))?;
                        Ok(values.to_vec())
                    })?,
                };
                self.uploaded(bytes)?;
            }
        }
        Ok(Some(matrix))
    }

    /// Reads, converts and uploads some rows. Returns their bytes on the GPU.
    fn block<T: bytemuck::Pod>(
        &mut self,
        block: &Block<'_>,
        convert: impl Fn(&TensorInfo, &Run, &[f32]) -> Result<Vec<T>>,
    ) -> Result<u64> {
        let (spec, n_columns) = (block.spec, block.spec.columns.len());
        let mut out = block.zeroed();
        for run in block.runs() {
            let info = self.info(&spec.sources[run.source]);
            let elems = run.places.len() * n_columns;
            let mut values = std::mem::take(&mut self.block);
            values.resize(elems, 0.0);
            let rows = run.file_rows(spec);
            match spec.layout {
                Layout::Transposed => self.reader.read_block(info, 0..n_columns, rows, &mut values)?,
                _ => self.reader.read_block(info, rows, 0..n_columns, &mut values)?,
            }
            self.read(elems, info)?;
            block.place(&run, &convert(info, &run, &values)?, &mut out);
            self.block = values;
        }
        block.upload(self.gpu, &out)
    }
}

/// Unwraps a tensor that every model has.
fn required<T>(loaded: Option<T>) -> T {
    loaded.expect("every model has this tensor, and the list names it")
}

/// Allocates the buffers of a matrix, split by rows if it does not fit one binding.
fn allocate_matrix(gpu: &Gpu, spec: &TensorSpec, dtype: DType) -> Result<Matrix> {
    let (n_rows, n_columns) = (spec.rows.padded_len(), spec.columns.padded_len());
    let at_once = Matrix::rows_per_piece(n_columns, dtype, gpu.max_binding_bytes());
    let pieces = (0..n_rows).step_by(at_once).map(|first_row| {
        let n_rows = at_once.min(n_rows - first_row);
        let bytes = (n_rows * n_columns * dtype.size_bytes()) as u64;
        let buffer = gpu.allocate(spec.name(), bytes, BufferUse::Storage, MemoryGroup::Weights)?;
        Ok(Piece { first_row, n_rows, buffer })
    });
    let pieces = pieces.collect::<Result<_>>()?;
    let layout = MatrixLayout::preferred_by(gpu.capabilities().strategy);
    Ok(Matrix { dtype, layout, n_rows, n_columns, pieces })
}

/// Returns the GPU bytes of all weights.
#[must_use]
pub fn weight_bytes(config: &Decoder, dtype: DType) -> u64 {
    let bytes = |spec: &TensorSpec| {
        let (rows, columns) = (spec.rows.padded_len() as u64, spec.columns.padded_len() as u64);
        if spec.layout == Layout::Vector { rows * 4 } else { rows * columns * dtype.size_bytes() as u64 }
    };
    config.tensors().iter().map(bytes).sum()
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
    let message = format!(
        "element {index} is {value}, beyond f16's largest value of 65504: use ModelOptions::dtype = f32"
    );
    Error::tensor(&info.name, message)
}
