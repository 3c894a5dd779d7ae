// Parameters and bindings that the attention kernels share.
struct AttentionParams {
    // Heads of q.
    n_head: u32,
    // Heads of k and v.
    n_kv_head: u32,
    // Heads of q that share one of k and v: n_head / n_kv_head.
    group: u32,
    // Length of a row of `qkv` divided by 4: q, [n_head, HEAD_DIM], then k and v, each
    // [n_kv_head, HEAD_DIM].
    qkv_stride4: u32,
    // Length of a row of `out` divided by 4: [n_head, HEAD_DIM].
    out_stride4: u32,
    // Factor of q·k.
    scale: f32,
    // Bound of a score where it has one.
    soft_cap: f32,
    // Positions that a row sees, its own included; the largest u32 for all.
    window: u32,
    // HEAD_DIM / 8, for loops that must not be unrolled.
    packs: u32,
    // Room for partial results of a head; the decode kernels alone read it.
    max_splits: u32,
    // Shape of the scores between the per-thread kernels of prefill: positions, and
    // rows times `group`.
    score_keys: u32,
    score_items: u32,
}

@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, 4 * qkv_stride4]
@group(0) @binding(2) var<storage, read> qkv: array<Load4>;
// [pages of the session]
@group(0) @binding(3) var<storage, read> page_table: array<u32>;

