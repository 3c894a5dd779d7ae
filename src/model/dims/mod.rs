//! The sizes of all buffers. They are computed once; the memory plan and the allocations
//! both use them.

mod plan;
mod slot;

use super::ahead;
use super::decoder::{Attention, Decoder, LayerAttention, Residual};
use super::kv_cache::{GroupPages, KV_GROUPS_MAX, KvGroup, WINDOW_SLACK};
use super::options::ModelOptions;
use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Strategy};
use crate::kernels::{
    AttentionShape, BATCH_MAX, Batch, Choices, Matrix, OVERFLOW_FLAG_BYTES, Op, PAGE_SIZE, ROWS_MAX,
    SLABS_MAX, Scratch, Step, argmax, attention_decode, gemm, page_pack_bytes, score,
};
use crate::tensor::Axis;
pub(super) use slot::{PAGE_TABLES, Slot};

/// Maximum bytes of logits computed at once. It bounds their buffer and the readback. It
/// is enough for 83 rows of GPT-2, which fill a gemm tile.
const LOGITS_BYTES: usize = 16 << 20;
/// Maximum rows of logits computed at once. More rows would only enlarge the readback.
const LOGITS_ROWS_MAX: usize = 256;

/// Rows of a gemm tile. If at least one tile fits, scoring computes logits in whole
/// tiles, so only the last tile of a pass can be partly filled.
const TILE_ROWS: usize = 64;

/// Offset of the head's [`Step`] in [`Slot::Step`]. The body's step is at 0. The offset
/// is the portable alignment of uniform buffer offsets.
pub(super) const HEAD_STEP_OFFSET: u64 = 256;
/// Offset of the rows of a batch in [`Slot::Step`].
pub(super) const BATCH_OFFSET: u64 = 2 * HEAD_STEP_OFFSET;

/// Maximum number of slices of the head's matrix, in addition to the pieces that binding
/// limits require. Each slice needs a dispatch and its own parameters.
pub(super) const HEAD_SLICES_MAX: usize = 32;

/// Elements of a buffer that a model does not use: the smallest possible buffer.
const UNUSED_ELEMS: usize = 4;

/// Sizes derived from a config, the options and the device.
#[derive(Clone, Debug)]
pub struct Dims {
    /// Longest context, in positions.
    pub n_ctx: usize,
    /// Maximum tokens in a prefill chunk.
    pub chunk: usize,
    /// Maximum rows of logits computed at once.
    pub logits_rows: usize,
    /// Maximum rows in a batch.
    pub batch: usize,
    /// Maximum rows in a packed pass, over all its sequences.
    pub packed: usize,
    /// Steps encoded ahead with the GPU sampler; 0 if it is not used.
    pub steps_ahead: usize,
    /// Pages of a full context.
    pub context_pages: usize,
    /// Groups of layers that share their pages.
    pub groups: Vec<KvGroup>,
    /// Initial pages of each group's pool: enough for one context, or for the part of it
    /// that the group's layers see.
    pub initial_pages: GroupPages,
    /// Maximum pages in a slab, which must fit one binding.
    pub pages_per_slab: usize,
    /// Bytes of one page of one layer.
    pub page_bytes: u64,
    config: Decoder,
    options: ModelOptions,
    choices: Choices,
    max_binding_bytes: u64,
}

impl Dims {
    /// Derives the sizes.
    ///
    /// # Errors
    /// [`Error::Input`] for invalid options: a context of 0 or longer than the model's, a
    /// prefill chunk of 0, a `max_submit` of 0, or too many steps ahead.
    /// [`Error::Limits`] if the KV cache of one context or the position embedding does
    /// not fit the device's bindings, if a head is too wide for decode attention, or if
    /// the vocabulary is too large for the GPU sampler.
    pub fn new(
        config: &Decoder,
        options: &ModelOptions,
        device: &Capabilities,
        choices: &Choices,
        max_binding_bytes: u64,
    ) -> Result<Self> {
        options.check()?;
        let n_ctx = options.n_ctx.unwrap_or(config.default_n_ctx());
        if n_ctx == 0 || n_ctx > config.n_positions {
            return Err(Error::input(format!(
                "a context of {n_ctx} positions: this model takes 1 to {}",
                config.n_positions
            )));
        }
        if options.prefill_chunk == 0 {
            return Err(Error::input("a prefill chunk of 0 tokens: it must be at least 1"));
        }
        let positions_max =
            Matrix::rows_per_piece(config.embd().padded_len(), options.dtype, max_binding_bytes);
        if config.embedding.positions.is_some() && config.n_positions > positions_max {
            return Err(Error::Limits(format!(
                "config.json: n_positions = {}: the position embedding must fit into one binding, and this \
                 device's largest binding holds {positions_max} rows of {} as {}",
                config.n_positions, config.n_embd, options.dtype
            )));
        }
        let heads = config.heads();
        let split = choices.get(Op::AttentionDecode).strategy != Strategy::PerThread;
        if split && heads.padded > attention_decode::HEAD_DIM_MAX {
            return Err(Error::Limits(format!(
                "config.json: heads of {} elements: the portable workgroup memory of 16 KiB \
                 holds up to {}",
                heads.size,
                attention_decode::HEAD_DIM_MAX
            )));
        }
        let widest = [
            config.qkv().padded_len(),
            config.up_rows(),
            config.embd().padded_len(),
            scratch_elems(choices, config, n_ctx, [1, 1]),
        ];
        let widest_bytes = widest.into_iter().max().unwrap_or(1) as u64 * 4;
        let rows_that_fit = (max_binding_bytes / widest_bytes).max(1) as usize;
        let chunk = options.prefill_chunk.min(n_ctx).min(rows_that_fit);
        let vocab_bytes = config.vocab().padded_len() * 4;
        // A readback appends the overflow flag to the logits and must not exceed a
        // binding.
        let logits_bytes = LOGITS_BYTES.min(max_binding_bytes.saturating_sub(OVERFLOW_FLAG_BYTES) as usize);
        let page_bytes = page_pack_bytes(config.attention.n_kv_head, heads.padded, options.kv_dtype);
        let pages_per_slab = ((max_binding_bytes / page_bytes) as usize).min((1 << 24) - 1);
        let context_pages = n_ctx.div_ceil(PAGE_SIZE);
        let groups = KvGroup::of(config, n_ctx);
        let seen = |window: usize| (window + WINDOW_SLACK + chunk).div_ceil(PAGE_SIZE) + 1;
        let mut initial_pages = [0; KV_GROUPS_MAX];
        for (pages, group) in initial_pages.iter_mut().zip(&groups) {
            *pages = group.window.map_or(context_pages, seen).min(context_pages);
        }
        let most = initial_pages.into_iter().max().unwrap_or(0);
        if most > pages_per_slab * SLABS_MAX {
            return Err(Error::Limits(format!(
                "the KV cache of {n_ctx} positions needs {most} pages per layer, but the device's bindings \
                 hold {}: use a shorter context or ModelOptions::kv_dtype = f16",
                pages_per_slab * SLABS_MAX
            )));
        }
        let logits_rows = (logits_bytes / vocab_bytes).clamp(1, LOGITS_ROWS_MAX).min(chunk);
        Ok(Dims {
            n_ctx,
            chunk,
            logits_rows,
            batch: BATCH_MAX.min(logits_rows),
            packed: ROWS_MAX.min(chunk),
            steps_ahead: options.steps_ahead_on(device, config.vocab_size)?,
            context_pages,
            groups,
            initial_pages,
            pages_per_slab,
            page_bytes,
            config: config.clone(),
            options: options.clone(),
            choices: *choices,
            max_binding_bytes,
        })
    }

    /// Returns the bytes that a slot's buffer needs.
    pub(super) fn slot_bytes(&self, slot: Slot) -> u64 {
        let c = &self.config;
        let (embd, heads, qkv) = (c.embd().padded_len(), c.heads(), c.qkv().padded_len());
        let elems = match slot {
            Slot::Step => return BATCH_OFFSET + size_of::<Batch>() as u64,
            Slot::Argmax => return argmax::RESULT_BYTES * self.batch as u64,
            Slot::PageCopy => return self.page_bytes,
            Slot::F16Overflow => return OVERFLOW_FLAG_BYTES,
            Slot::GemmScratch => return self.gemm_scratch_bytes(),
            Slot::ScorePartial => {
                let candidate = self.choices.get(Op::Score);
                return score::partial_bytes(candidate, c.vocab_size) * self.logits_rows as u64;
            }
            Slot::ScoreDetails => return (self.chunk * size_of::<score::TokenScore>()) as u64,
            Slot::TokenIds | Slot::Targets | Slot::Logprobs => self.chunk,
            Slot::PageTable => self.page_table_entries(),
            Slot::PageTableNear if self.groups.len() > 1 => self.page_table_entries(),
            Slot::X | Slot::Normed => self.chunk * embd,
            Slot::Qkv => self.chunk * qkv,
            Slot::Attention => self.chunk * heads.padded_len(),
            Slot::Inner => self.chunk * c.inner().padded_len(),
            Slot::Gate if c.is_gated() && gemm::needs_gated_scratch(self.choices.get(Op::Gemm)) => {
                self.chunk * c.up_rows()
            }
            Slot::Branch if matches!(c.residual, Residual::Sandwich { .. }) => self.chunk * embd,
            Slot::Rope => self.rope_elems(0),
            Slot::RopeLocal => self.rope_elems(1),
            Slot::Gate | Slot::Branch | Slot::PageTableNear => UNUSED_ELEMS,
            Slot::AttentionScratch => scratch_elems(&self.choices, c, self.n_ctx, [self.chunk, self.batch]),
            Slot::HeadNormed => self.logits_rows * embd,
            Slot::Logits => self.logits_rows * c.vocab().padded_len(),
        };
        elems as u64 * 4
    }

    /// Returns the elements of the table of rotary embedding `index`.
    fn rope_elems(&self, index: usize) -> usize {
        let exists = index < self.config.attention.ropes.len();
        if exists { self.n_ctx * self.config.heads().padded } else { UNUSED_ELEMS }
    }

    /// Returns the scratch bytes for a gemm of any matrix of a layer, limited to a
    /// binding. The head is larger but does not split k. At least 16, because a buffer
    /// cannot be empty.
    fn gemm_scratch_bytes(&self) -> u64 {
        let (c, candidate) = (&self.config, self.choices.get(Op::Gemm));
        let bytes = [c.qkv().padded_len(), c.embd().padded_len(), c.up_rows()]
            .map(|n| gemm::scratch_bytes(candidate, n));
        bytes.into_iter().max().unwrap_or(0).min(self.max_binding_bytes).max(16)
    }

    /// Returns the maximum number of page table entries of a pass: one full context for
    /// each row of a batch.
    #[must_use]
    pub fn page_table_entries(&self) -> usize {
        self.batch * self.context_pages
    }

    /// Returns the maximum number of rows whose logits are computed and scored at once.
    pub(super) fn score_rows_max(&self) -> usize {
        if self.logits_rows < TILE_ROWS { self.logits_rows } else { self.logits_rows / TILE_ROWS * TILE_ROWS }
    }

    /// Returns the bytes of one of the two upload buffers. It holds both steps, a batch,
    /// a chunk of tokens and of targets, the page tables, and zeros for the overflow
    /// flag. The rest holds either the data of steps ahead or the steps of a scored
    /// chunk, whichever is larger.
    pub(super) fn upload_bytes(&self) -> u64 {
        let scored = self.chunk.div_ceil(self.score_rows_max()) * size_of::<Step>();
        let later = ahead::staged_bytes(self.steps_ahead).max(scored);
        let steps = 2 * size_of::<Step>() + size_of::<Batch>() + later;
        let slots = [Slot::TokenIds, Slot::Targets, Slot::F16Overflow].iter().chain(&PAGE_TABLES);
        steps as u64 + slots.map(|&slot| self.slot_bytes(slot)).sum::<u64>()
    }

    /// Returns the bytes of the readback: the largest result of a pass, then the overflow
    /// flag.
    pub(super) fn readback_bytes(&self) -> u64 {
        self.slot_bytes(Slot::Logits).max(self.slot_bytes(Slot::ScoreDetails)) + OVERFLOW_FLAG_BYTES
    }

    /// Returns an upper bound on distinct parameter structs. Equal structs are stored
    /// once. Attention needs one per layer for its scale. Each piece of the embedding, of
    /// the head and of a layer's four matrices needs one, which both phases share. Each
    /// slice of the head needs one. Norms with and without a sum, norms of heads, gates,
    /// append, merge, argmax and score need one each. With overflow detection, appends
    /// and the projections that they may be fused with need one per layer.
    pub(super) fn params_capacity(&self) -> usize {
        let (c, dtype) = (&self.config, self.options.dtype);
        let pieces = |rows: usize, columns: Axis| {
            let at_once = Matrix::rows_per_piece(columns.padded_len(), dtype, self.max_binding_bytes);
            rows.div_ceil(at_once)
        };
        let (qkv, embd) = (c.qkv().padded_len(), c.embd().padded_len());
        let layer = pieces(qkv, c.embd())
            + pieces(embd, c.heads())
            + pieces(c.up_rows(), c.embd())
            + pieces(embd, c.inner());
        let tagged = if self.options.detects_f16_overflow() { 1 + pieces(qkv, c.embd()) } else { 0 };
        let head = pieces(c.vocab().padded_len(), c.embd());
        (2 + tagged) * c.n_layer + 3 * head + 2 * (HEAD_SLICES_MAX + head) + 2 * layer + 10
    }

    /// Returns the KV cache bytes of one position, over all layers.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.page_bytes / PAGE_SIZE as u64 * self.config.n_layer as u64
    }
}

/// Returns the scratch elements of the chosen attention kernels for at most
/// `prefill_rows` and `decode_rows` rows. At least 4, because a buffer must be bound.
fn scratch_elems(
    choices: &Choices,
    config: &Decoder,
    n_ctx: usize,
    [prefill_rows, decode_rows]: [usize; 2],
) -> usize {
    let Attention { n_head, n_kv_head, ref layers, .. } = config.attention;
    let head_dim = config.heads().padded;
    let elems = |op, max_rows| {
        let layer = |layer: &LayerAttention| {
            let shape = AttentionShape { n_head, n_kv_head, head_dim, window: layer.window };
            Scratch::elems(choices.get(op), n_ctx, max_rows, shape)
        };
        layers.iter().map(layer).max().unwrap_or(0)
    };
    elems(Op::AttentionPrefill, prefill_rows).max(elems(Op::AttentionDecode, decode_rows)).max(4)
}
