//! The sizes of every buffer: computed once, used by the memory plan and by
//! the allocation.

use super::ahead;
use super::gpt2::Gpt2Config;
use super::kv_cache::{SPARE_SLAB_BYTES, SPARE_SLABS};
use super::loader::weight_bytes;
use super::options::ModelOptions;
use crate::error::{Error, Result};
use crate::gpu::{Capabilities, MemoryGroup, Params, Strategy, rounded_bytes};
use crate::kernels::sample::SampleScratch;
use crate::kernels::{
    BATCH_MAX, Batch, Choices, Matrix, Op, PAGE_SIZE, SLABS_MAX, Scratch, Step, argmax, attention_decode,
    gemm, page_pack_bytes,
};
use crate::tensor::Axis;

/// Rows of logits that are computed at once fit in this many bytes, there and
/// in the readback: 83 rows of GPT-2, enough to fill a tile of gemm...
const LOGITS_BYTES: usize = 16 << 20;
/// ...and are at most this many: beyond it the readback only grows.
const LOGITS_ROWS_MAX: usize = 256;

/// A step struct at the start, a second one for the head at this offset: the
/// portable alignment of a uniform's offset...
pub(super) const HEAD_STEP_OFFSET: u64 = 256;
/// ...and the rows of a batch behind it.
pub(super) const BATCH_OFFSET: u64 = 2 * HEAD_STEP_OFFSET;

/// The buffers between kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Slot {
    /// Two [`Step`]s, the body's and the head's; a [`Batch`].
    Step,
    /// `[chunk]`, u32
    TokenIds,
    /// `[batch, pages of a context]`, u32
    PageTable,
    /// `[chunk, n_embd]`: the residual stream
    X,
    /// `[chunk, n_embd]`: behind a layer norm
    Normed,
    /// `[chunk, 3, n_head, head_dim]`
    Qkv,
    /// `[chunk, n_head, head_dim]`
    Attention,
    /// `[chunk, n_inner]`
    Inner,
    /// What passes between the kernels of one attention.
    AttentionScratch,
    /// Parts of sums of a gemm that splits k.
    GemmScratch,
    /// `[logits_rows, n_embd]`: behind the final layer norm
    HeadNormed,
    /// `[logits_rows, vocab_size]`
    Logits,
    /// Token and flag of each row of a batch.
    Argmax,
    /// One page of one layer: a buffer cannot be copied onto itself.
    PageCopy,
}

impl Slot {
    pub(super) const ALL: [Slot; 14] = [
        Slot::Step,
        Slot::TokenIds,
        Slot::PageTable,
        Slot::X,
        Slot::Normed,
        Slot::Qkv,
        Slot::Attention,
        Slot::Inner,
        Slot::AttentionScratch,
        Slot::GemmScratch,
        Slot::HeadNormed,
        Slot::Logits,
        Slot::Argmax,
        Slot::PageCopy,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Slot::Step => "step",
            Slot::TokenIds => "token_ids",
            Slot::PageTable => "page_table",
            Slot::X => "x",
            Slot::Normed => "normed",
            Slot::Qkv => "qkv",
            Slot::Attention => "attention",
            Slot::Inner => "inner",
            Slot::AttentionScratch => "attention_scratch",
            Slot::GemmScratch => "gemm_scratch",
            Slot::HeadNormed => "head_normed",
            Slot::Logits => "logits",
            Slot::Argmax => "argmax",
            Slot::PageCopy => "page_copy",
        }
    }

    pub(super) const fn group(self) -> MemoryGroup {
        match self {
            Slot::HeadNormed | Slot::Logits | Slot::Argmax => MemoryGroup::Logits,
            Slot::PageCopy => MemoryGroup::KvCache,
            _ => MemoryGroup::Activations,
        }
    }
}

/// Sizes that follow from a config, the options and the device.
#[derive(Clone, Debug)]
pub struct Dims {
    /// Longest context.
    pub n_ctx: usize,
    /// Tokens of a prefill chunk.
    pub chunk: usize,
    /// Rows of logits computed at once.
    pub logits_rows: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Steps encoded ahead with the sampler on the GPU; 0 without it.
    pub steps_ahead: usize,
    /// Pages that the pool holds at first: one whole context.
    pub initial_pages: usize,
    /// Pages that one slab may hold within a binding.
    pub pages_per_slab: usize,
    /// Bytes of a page of one layer.
    pub page_bytes: u64,
    config: Gpt2Config,
    options: ModelOptions,
    choices: Choices,
    max_binding_bytes: u64,
}

impl Dims {
    /// Derives the sizes.
    ///
    /// # Errors
    /// [`Error::Input`] for a context of 0 or beyond the model's,
    /// [`Error::Limits`] when the KV cache of one context or the position
    /// embedding does not fit the device's bindings.
    pub fn new(
        config: &Gpt2Config,
        options: &ModelOptions,
        device: &Capabilities,
        choices: &Choices,
        max_binding_bytes: u64,
    ) -> Result<Self> {
        let n_ctx = options.n_ctx.unwrap_or(config.n_positions);
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
        if config.n_positions > positions_max {
            return Err(Error::Limits(format!(
                "config.json: n_positions = {}: the position embedding must lie in one binding, and this \
                 device's largest holds {positions_max} rows of {} as {}",
                config.n_positions, config.n_embd, options.dtype
            )));
        }
        let heads = config.heads();
        let split = choices.get(Op::AttentionDecode).strategy != Strategy::PerThread;
        if split && heads.padded > attention_decode::HEAD_DIM_MAX {
            return Err(Error::Limits(format!(
                "config.json: heads of {} elements (n_embd / n_head): the portable workgroup memory of 16 KiB \
                 holds up to {}",
                heads.size,
                attention_decode::HEAD_DIM_MAX
            )));
        }
        let widest = [
            config.qkv().padded_len(),
            config.inner().padded_len(),
            config.embd().padded_len(),
            scratch_elems(choices, config, n_ctx, 1),
        ];
        let widest_bytes = widest.into_iter().max().unwrap_or(1) as u64 * 4;
        let rows_that_fit = (max_binding_bytes / widest_bytes).max(1) as usize;
        let chunk = options.prefill_chunk.min(n_ctx).min(rows_that_fit);
        let vocab_bytes = config.vocab().padded_len() * 4;
        let logits_bytes = LOGITS_BYTES.min(max_binding_bytes as usize);
        let page_bytes = page_pack_bytes(config.n_head, heads.padded, options.kv_dtype);
        let pages_per_slab = ((max_binding_bytes / page_bytes) as usize).min((1 << 24) - 1);
        let initial_pages = n_ctx.div_ceil(PAGE_SIZE);
        if initial_pages > pages_per_slab * SLABS_MAX {
            return Err(Error::Limits(format!(
                "the KV cache of {n_ctx} positions needs {initial_pages} pages a layer, the device's bindings \
                 hold {}: use a shorter context or --kv-dtype f16",
                pages_per_slab * SLABS_MAX
            )));
        }
        let logits_rows = (logits_bytes / vocab_bytes).clamp(1, LOGITS_ROWS_MAX).min(chunk);
        Ok(Dims {
            n_ctx,
            chunk,
            logits_rows,
            batch: BATCH_MAX.min(logits_rows),
            steps_ahead: options.steps_ahead_on(device, config.vocab_size)?,
            initial_pages,
            pages_per_slab,
            page_bytes,
            config: config.clone(),
            options: options.clone(),
            choices: *choices,
            max_binding_bytes,
        })
    }

    /// Bytes that a slot's buffer needs.
    pub(super) fn slot_bytes(&self, slot: Slot) -> u64 {
        let c = &self.config;
        let (embd, heads, qkv) = (c.embd().padded_len(), c.heads(), c.qkv().padded_len());
        let elems = match slot {
            Slot::Step => return BATCH_OFFSET + size_of::<Batch>() as u64,
            Slot::Argmax => return argmax::RESULT_BYTES * self.batch as u64,
            Slot::PageCopy => return self.page_bytes,
            Slot::GemmScratch => return self.gemm_scratch_bytes(),
            Slot::TokenIds => self.chunk,
            Slot::PageTable => self.batch * self.initial_pages,
            Slot::X | Slot::Normed => self.chunk * embd,
            Slot::Qkv => self.chunk * qkv,
            Slot::Attention => self.chunk * heads.padded_len(),
            Slot::Inner => self.chunk * c.inner().padded_len(),
            Slot::AttentionScratch => scratch_elems(&self.choices, c, self.n_ctx, self.chunk),
            Slot::HeadNormed => self.logits_rows * embd,
            Slot::Logits => self.logits_rows * c.vocab().padded_len(),
        };
        elems as u64 * 4
    }

    /// Enough for every matrix of a layer, if a binding may be that large; the head,
    /// larger still, does not split k. At least some, since a buffer has a size.
    fn gemm_scratch_bytes(&self) -> u64 {
        let (c, candidate) = (&self.config, self.choices.get(Op::Gemm));
        let bytes = [c.qkv(), c.embd(), c.inner()].map(|n| gemm::scratch_bytes(candidate, n.padded_len()));
        bytes.into_iter().max().unwrap_or(0).min(self.max_binding_bytes).max(16)
    }

    /// Bytes of one of the two upload buffers: both steps, a batch, a chunk of
    /// tokens, page tables, what steps ahead stage.
    pub(super) fn upload_bytes(&self) -> u64 {
        let steps = 2 * size_of::<Step>() + size_of::<Batch>() + ahead::staged_bytes(self.steps_ahead);
        steps as u64 + self.slot_bytes(Slot::TokenIds) + self.slot_bytes(Slot::PageTable)
    }

    /// Room for different parameter structs, equal ones being stored once: a
    /// scale a layer in attention; one for each piece of the embedding, the head
    /// and a layer's four matrices (both phases share them); one each for layer
    /// norm, append, merge and argmax.
    pub(super) fn params_capacity(&self) -> usize {
        let (c, dtype) = (&self.config, self.options.dtype);
        let pieces = |rows: Axis, columns: Axis| {
            let at_once = Matrix::rows_per_piece(columns.padded_len(), dtype, self.max_binding_bytes);
            rows.padded_len().div_ceil(at_once)
        };
        let layer = pieces(c.qkv(), c.embd())
            + pieces(c.embd(), c.heads())
            + pieces(c.inner(), c.embd())
            + pieces(c.embd(), c.inner());
        2 * c.n_layer + 3 * pieces(c.vocab(), c.embd()) + 2 * layer + 5
    }

    /// Bytes that one position takes in the KV cache, all layers.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.page_bytes / PAGE_SIZE as u64 * self.config.n_layer as u64
    }

    /// What will be allocated, exactly.
    #[must_use]
    pub fn plan(&self) -> MemoryPlan {
        let mut entries = vec![PlanEntry {
            group: MemoryGroup::Weights,
            name: "weights",
            bytes: weight_bytes(&self.config, self.options.dtype),
        }];
        let kv = self.initial_pages as u64 * self.page_bytes * self.config.n_layer as u64;
        entries.push(PlanEntry { group: MemoryGroup::KvCache, name: "pages", bytes: kv });
        if self.initial_pages > self.pages_per_slab {
            let bytes = SPARE_SLABS as u64 * SPARE_SLAB_BYTES;
            entries.push(PlanEntry { group: MemoryGroup::KvCache, name: "spare_slabs", bytes });
        }
        for slot in Slot::ALL {
            let bytes = rounded_bytes(self.slot_bytes(slot));
            entries.push(PlanEntry { group: slot.group(), name: slot.name(), bytes });
        }
        if self.steps_ahead > 0 {
            let bytes = SampleScratch::bytes(self.config.vocab_size);
            entries.push(PlanEntry { group: MemoryGroup::Logits, name: "sample_scratch", bytes });
        }
        let upload = 2 * rounded_bytes(self.upload_bytes());
        entries.push(PlanEntry { group: MemoryGroup::Transfer, name: "upload", bytes: upload });
        let readback = rounded_bytes(self.slot_bytes(Slot::Logits));
        entries.push(PlanEntry { group: MemoryGroup::Transfer, name: "readback", bytes: readback });
        let params = self.params_capacity() as u64 * Params::SLOT_BYTES;
        entries.push(PlanEntry { group: MemoryGroup::Params, name: "params", bytes: params });
        MemoryPlan { entries }
    }
}

/// Elements that the chosen attention kernels pass between them; at least some,
/// since something must be bound.
fn scratch_elems(choices: &Choices, config: &Gpt2Config, n_ctx: usize, max_rows: usize) -> usize {
    let (n_head, head_dim) = (config.n_head, config.heads().padded);
    let elems = |op| Scratch::elems(choices.get(op), n_ctx, max_rows, n_head, head_dim);
    elems(Op::AttentionPrefill).max(elems(Op::AttentionDecode)).max(4)
}

/// The GPU memory of a model, before anything is allocated.
///
/// A second session's pages beyond the first context make the KV pool grow, and
/// while it grows old and new slabs exist. A running generation with steps ahead
/// takes some 2 KB more. Everything else stays as planned.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemoryPlan {
    /// Every buffer or family of buffers.
    pub entries: Vec<PlanEntry>,
}

/// One line of a [`MemoryPlan`].
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PlanEntry {
    /// What the memory serves.
    pub group: MemoryGroup,
    /// The buffer's name.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
}

impl MemoryPlan {
    /// Bytes of one group.
    #[must_use]
    pub fn group_bytes(&self, group: MemoryGroup) -> u64 {
        self.entries.iter().filter(|entry| entry.group == group).map(|entry| entry.bytes).sum()
    }

    /// Bytes of all groups.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }
}
