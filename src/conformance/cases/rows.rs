//! Cases of the operations on rows: embedding and argmax.

use std::fmt;

use super::data::{Random, U, batch, floats, input, matrix, record, rounded, step};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Row, Step, StepRows, argmax, embedding};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// Token embedding plus position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingCase {
    /// Number of tokens in the step.
    pub n_tokens: usize,
    /// Position of the first token of a chunk, or of the last row of a batch.
    pub position: usize,
    /// Number of rows of wte.
    pub vocab_size: usize,
    /// Features.
    pub n_embd: usize,
    /// Data type of the weights.
    pub dtype: DType,
    /// Rows per piece of wte; a multiple of 8.
    pub piece_rows: usize,
    /// Whether the rows are a batch with descending positions.
    pub batch: bool,
    /// Whether there are position embeddings.
    pub wpe: bool,
    /// Factor of the token embedding.
    pub scale: f32,
}

impl EmbeddingCase {
    /// Creates a chunk from position 0 with position embeddings and a single piece.
    #[must_use]
    pub fn usual(n_tokens: usize, vocab_size: usize, n_embd: usize, dtype: DType) -> Self {
        EmbeddingCase {
            n_tokens,
            position: 0,
            vocab_size,
            n_embd,
            dtype,
            piece_rows: pad_row(vocab_size),
            batch: false,
            wpe: true,
            scale: 1.0,
        }
    }

    fn row_position(&self, row: usize) -> usize {
        self.position + if self.batch { self.n_tokens - 1 - row } else { row }
    }

    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let mut random = Random::new(3);
        let n_positions = self.position + self.n_tokens;
        let wte = rounded(self.dtype, random.uniform(self.vocab_size * self.n_embd, 1.0));
        let wpe = rounded(self.dtype, random.uniform(n_positions * self.n_embd, 1.0));
        // The last and the first token of the vocabulary, then random ones.
        let mut tokens: Vec<u32> = (0..self.n_tokens).map(|_| random.below(self.vocab_size) as u32).collect();
        tokens[0] = self.vocab_size as u32 - 1;
        if let Some(last) = tokens.get_mut(1) {
            *last = 0;
        }
        let axis = Axis::plain(self.n_embd);
        let width = axis.padded_len();
        let mut expected = vec![Expected::exactly(0.0); self.n_tokens * width];
        let positions: Vec<usize> = (0..self.n_tokens).map(|row| self.row_position(row)).collect();
        let row = |(&token, &position): (&u32, &usize)| {
            let wpe = self.wpe.then_some(&wpe[..]);
            reference::embedding(&[token], position, &wte, wpe, self.scale, self.n_embd)
        };
        let want: Vec<f32> = tokens.iter().zip(&positions).flat_map(row).collect();
        for (i, want) in want.into_iter().enumerate() {
            let want = f64::from(want);
            // A factor of 1 is exact. With any other factor, the product and then the sum
            // are rounded.
            let tolerance =
                if self.scale == 1.0 { 0.0 } else { U * (f64::from(self.scale) + 2.0 * want.abs()) };
            expected[i / self.n_embd * width + axis.position(i % self.n_embd)] =
                Expected::Value { want, tolerance };
        }
        let wte = matrix(gpu, self.dtype, &wte, Axis::plain(self.vocab_size), axis, self.piece_rows)?;
        let wpe = matrix(gpu, self.dtype, &wpe, Axis::plain(n_positions), axis, pad_row(n_positions))?;
        let token_ids = input(gpu, "token_ids", bytemuck::cast_slice(&tokens))?;
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), &[], expected)?;
        let (n_rows, position) = (self.n_tokens as u32, self.position as u32);
        let step = step(gpu, Step { n_rows, position, ..Step::default() })?;
        let rows: Vec<Row> =
            positions.iter().map(|&position| Row { position: position as u32, ..Row::default() }).collect();
        let batch = if self.batch { Some(batch(gpu, &rows)?) } else { None };
        let dispatches = record(gpu, |recorder| {
            let op = embedding::Embedding {
                rows: StepRows { step: (&step).into(), batch: batch.as_ref().map(Into::into) },
                token_ids: &token_ids,
                wte: &wte,
                wpe: self.wpe.then_some(&wpe),
                scale: self.scale,
                out: &out,
            };
            embedding::record(recorder, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "none of one addition; rounding of a product",
            dispatches,
            work: Work { n_rows, kv_len: 0 },
            outputs: vec![(output, out)],
        })
    }
}

impl fmt::Display for EmbeddingCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EmbeddingCase { n_tokens, position, vocab_size, n_embd, dtype, piece_rows, batch, wpe, scale } =
            self;
        write!(
            f,
            "tokens={n_tokens} at {position}, wte {vocab_size}x{n_embd} {dtype} pieces of {piece_rows}"
        )?;
        if *scale != 1.0 {
            write!(f, " times {scale}")?;
        }
        write!(f, "{}{}", if *wpe { "" } else { " without positions" }, if *batch { " batch" } else { "" })
    }
}

/// Values of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgmaxInput {
    /// Uniform in [-10, 10].
    Random,
    /// All negative.
    Negative,
    /// Two equal maxima, a third of the row apart.
    Ties,
    /// -0 in the first place and +0 in all others. All are equal.
    Zeros,
    /// All minus infinity except one.
    OneFinite,
    /// All minus infinity.
    NoneFinite,
    /// One NaN in the last place.
    Nan,
    /// One NaN with its sign bit set, in the first place.
    NegativeNan,
    /// One plus infinity.
    Infinity,
}

/// Index of the largest logit.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgmaxCase {
    /// Number of logits.
    pub n: usize,
    /// Values of the logits.
    pub input: ArgmaxInput,
}

impl ArgmaxCase {
    fn logits(&self) -> Vec<f32> {
        let mut logits = Random::new(4).uniform(self.n, 10.0);
        let last = self.n - 1;
        match self.input {
            ArgmaxInput::Random => {}
            ArgmaxInput::Negative => logits.iter_mut().for_each(|x| *x = -1.0 - x.abs()),
            ArgmaxInput::Ties => {
                logits[self.n / 3] = 11.0;
                logits[self.n / 3 * 2] = 11.0;
            }
            ArgmaxInput::Zeros => {
                logits.fill(0.0);
                logits[0] = -0.0;
            }
            ArgmaxInput::OneFinite => {
                logits.fill(f32::NEG_INFINITY);
                logits[last] = -1e38;
            }
            ArgmaxInput::NoneFinite => logits.fill(f32::NEG_INFINITY),
            ArgmaxInput::Nan => logits[last] = f32::NAN,
            ArgmaxInput::NegativeNan => logits[0] = f32::from_bits(0xffc0_0001),
            ArgmaxInput::Infinity => logits[self.n / 2] = f32::INFINITY,
        }
        logits
    }

    /// Prepares two rows, the second one reversed, with NaN between them. A read past the
    /// end of a row then raises the flag.
    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let row = self.logits();
        let reversed: Vec<f32> = row.iter().rev().copied().collect();
        let stride = self.n + 3;
        let (mut logits, mut expected) = (Vec::new(), Vec::new());
        for row in [row, reversed] {
            let found = reference::argmax(&row);
            expected.push(found.map_or(Expected::Any, |index| Expected::exactly(index as f64)));
            expected.push(Expected::exactly(if found.is_some() { 0.0 } else { 1.0 }));
            expected.extend([Expected::exactly(0.0); 2]);
            logits.extend(row);
            logits.extend([f32::NAN; 3]);
        }
        let logits = floats(gpu, "logits", &logits)?;
        let (output, result) = Output::new(gpu, "result", Format::U32, &[], expected)?;
        let dispatches = record(gpu, |recorder| argmax::record(recorder, self.n, stride, &logits, &result))?;
        Ok(Prepared {
            case,
            reason: "none: an index",
            dispatches,
            work: Work { n_rows: 2, kv_len: 0 },
            outputs: vec![(output, result)],
        })
    }
}

impl fmt::Display for ArgmaxCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} {:?}", self.n, self.input)
    }
}
