//! The buffers that kernels read and write, by name.

use crate::memory::MemoryGroup;
use crate::model::kv_cache::KV_GROUPS_MAX;

/// A buffer that kernels read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(in crate::model) enum Slot {
    /// Two `Step`s, the body's and the head's, then a `Batch`.
    Step,
    /// `[chunk]`, u32
    TokenIds,
    /// `[chunk]`, u32: the target token of each scored row
    Targets,
    /// `[batch, pages of a context]`, u32: for the group of layers that sees farthest
    PageTable,
    /// As `PageTable`, for layers with shorter windows, if there are any; a sequence has
    /// the same indices in both tables
    PageTableNear,
    /// `[chunk, n_embd]`: the residual stream
    X,
    /// `[chunk, n_embd]`: the output of a norm
    Normed,
    /// `[chunk, n_head + 2 n_kv_head, head_dim]`
    Qkv,
    /// `[chunk, n_head, head_dim]`
    Attention,
    /// `[chunk, n_inner]`
    Inner,
    /// `[chunk, 2 n_inner]`: gate and up, if a separate kernel multiplies them
    Gate,
    /// `[chunk, n_embd]`: the output of attention or MLP, if a norm follows before the
    /// residual sum
    Branch,
    /// `[n_ctx, head_dim / 4, 4]`: the table of the rotary embedding
    Rope,
    /// The table of the second rotary embedding, if there are two
    RopeLocal,
    /// Intermediate results between the kernels of one attention.
    AttentionScratch,
    /// Partial sums of a gemm that splits k.
    GemmScratch,
    /// `[logits_rows, n_embd]`: the output of the final norm
    HeadNormed,
    /// `[logits_rows, vocab_size]`
    Logits,
    /// The token and the fault flag of each row of a batch.
    Argmax,
    /// The flag in which the append kernels of a pass record f16 overflow.
    F16Overflow,
    /// `[logits_rows]`: partial scores.
    ScorePartial,
    /// `[chunk]`: log-probabilities.
    Logprobs,
    /// `[chunk]` of `TokenScore`.
    ScoreDetails,
    /// One page of one layer, for copies within a slab. A buffer cannot be copied onto
    /// itself.
    PageCopy,
}

/// The page tables, by group.
pub(in crate::model) const PAGE_TABLES: [Slot; KV_GROUPS_MAX] = [Slot::PageTable, Slot::PageTableNear];

impl Slot {
    pub(in crate::model) const ALL: [Slot; 24] = [
        Slot::Step,
        Slot::TokenIds,
        Slot::Targets,
        Slot::PageTable,
        Slot::PageTableNear,
        Slot::X,
        Slot::Normed,
        Slot::Qkv,
        Slot::Attention,
        Slot::Inner,
        Slot::Gate,
        Slot::Branch,
        Slot::Rope,
        Slot::RopeLocal,
        Slot::AttentionScratch,
        Slot::GemmScratch,
        Slot::HeadNormed,
        Slot::Logits,
        Slot::Argmax,
        Slot::F16Overflow,
        Slot::ScorePartial,
        Slot::Logprobs,
        Slot::ScoreDetails,
        Slot::PageCopy,
    ];

    pub(in crate::model) const fn name(self) -> &'static str {
        match self {
            Slot::Step => "step",
            Slot::TokenIds => "token_ids",
            Slot::Targets => "targets",
            Slot::PageTable => "page_table",
            Slot::PageTableNear => "page_table_near",
            Slot::X => "x",
            Slot::Normed => "normed",
            Slot::Qkv => "qkv",
            Slot::Attention => "attention",
            Slot::Inner => "inner",
            Slot::Gate => "gate",
            Slot::Branch => "branch",
            Slot::Rope => "rope",
            Slot::RopeLocal => "rope_local",
            Slot::AttentionScratch => "attention_scratch",
            Slot::GemmScratch => "gemm_scratch",
            Slot::HeadNormed => "head_normed",
            Slot::Logits => "logits",
            Slot::Argmax => "argmax",
            Slot::F16Overflow => "overflow",
            Slot::ScorePartial => "score_partial",
            Slot::Logprobs => "logprobs",
            Slot::ScoreDetails => "score_details",
            Slot::PageCopy => "page_copy",
        }
    }

    pub(in crate::model) const fn group(self) -> MemoryGroup {
        match self {
            Slot::HeadNormed
            | Slot::Logits
            | Slot::Argmax
            | Slot::ScorePartial
            | Slot::Logprobs
            | Slot::ScoreDetails => MemoryGroup::Logits,
            Slot::PageCopy | Slot::F16Overflow => MemoryGroup::KvCache,
            _ => MemoryGroup::Activations,
        }
    }
}
