// Parameters and bindings shared by the attention kernels.
struct AttentionParams {
    // Query heads.
    n_head: u32,
    // KV heads.
    n_kv_head: u32,
    // Query heads that share one KV head: n_head / n_kv_head.
    group: u32,
    // Length of a row of `qkv` divided by 4. A row holds q, [n_head, HEAD_DIM], then k
    // and v, each [n_kv_head, HEAD_DIM].
    qkv_stride4: u32,
    // Length of a row of `out`, [n_head, HEAD_DIM], divided by 4.
    out_stride4: u32,
    // Scale of q·k.
    scale: f32,
    // Bound of the scores; unused unless CAPPED is 1.
    soft_cap: f32,
    // Number of positions that a row sees, including its own; the largest u32 means all.
    window: u32,
    // HEAD_DIM / 8 as a parameter, so that loops over it are not unrolled.
    packs: u32,
    // Splits per head for which `partial` has space. Only the decode kernels read it.
    max_splits: u32,
    // Shape of the scores that pass between the per-thread prefill kernels: positions per
    // item, and items (rows times `group`) per KV head.
    score_keys: u32,
    score_items: u32,
}

@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, 4 * qkv_stride4]
@group(0) @binding(2) var<storage, read> qkv: array<Load4>;
// [pages of the sequences]
@group(0) @binding(3) var<storage, read> page_table: array<u32>;

// Limits attention scores to the range from -soft_cap to soft_cap if CAPPED is 1 (Gemma 2:
// Gemma Team 2024, arXiv 2408.00118, section 2).
fn capped(scores: vec4<f32>) -> vec4<f32> {
    if (CAPPED != 0u) {
        return soft_capped(scores, params.soft_cap);
    }
    return scores;
}
