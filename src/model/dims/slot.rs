//! The buffers between kernels, by name.

use crate::memory::MemoryGroup;
use crate::model::kv_cache::KV_GROUPS_MAX;

/// The buffers between kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(in crate::model) enum Slot {
    /// Two [`Step`]s, the body's and the head's; a [`Batch`].
    Step,
    /// `[chunk]`, u32
    TokenIds,
    /// `[chunk]`, u32: the tokens that rows are scored for
    Targets,
    /// `[batch, pages of a context]`, u32: of the layers that see farthest
    PageTable,
    /// The same of layers with shorter windows, where there are some: entries of the
    /// two stand at the same places
    PageTableNear,
    /// `[chunk, n_embd]`: the residual stream
    X,
    /// `[chunk, n_embd]`: behind a layer norm
    Normed,
    /// `[chunk, n_head + 2 n_kv_head, head_dim]`
    Qkv,
    /// `[chunk, n_head, head_dim]`
    Attention,
    /// `[chunk, n_inner]`
    Inner,
    /// `[chunk, 2 n_inner]`: gate and input where a kernel of its own multiplies them
    Gate,
    /// `[chunk, n_embd]`: what a norm stands behind, in front of the sum
    Branch,
    /// `[n_ctx, head_dim / 4, 4]`: the rotary embedding of layers
    Rope,
    /// The other one, where there are two
    RopeLocal,
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
    /// What the appends of a pass noted of keys and values that f16 cannot hold.
    Overflow,
    /// `[logits_rows]`: parts of scores.
    ScorePartial,
    /// `[chunk]`: log-probabilities.
    Logprobs,
    /// `[chunk]` of [`score::TokenScore`].
    ScoreDetails,
    /// One page of one layer: a buffer cannot be copied onto itself.
    PageCopy,
}

/// The page tables by group.
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
        Slot::Overflow,
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
            Slot::Overflow => "overflow",
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
            Slot::PageCopy | Slot::Overflow => MemoryGroup::KvCache,
            _ => MemoryGroup::Activations,
        }
    }
}
