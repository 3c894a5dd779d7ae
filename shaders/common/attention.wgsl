// Parameters and bindings that the attention kernels share.
struct AttentionParams {
    n_head: u32,
    // Length of a row of `qkv` divided by 4: q, then k, then v, each
    // [n_head, HEAD_DIM].
    qkv_stride4: u32,
    // Length of a row of `out` divided by 4: [n_head, HEAD_DIM].
    out_stride4: u32,
    // Factor of q·k.
    scale: f32,
    // Room for partial results of a head; the split decode kernel alone reads it.
    max_splits: u32,
    // HEAD_DIM / 8, for loops that must not be unrolled.
    packs: u32,
    // Shape of the scores between the per-thread kernels: positions and rows.
    score_keys: u32,
    score_rows: u32,
}

@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, 4 * qkv_stride4]
@group(0) @binding(2) var<storage, read> qkv: array<Load4>;
// [pages of the session]
@group(0) @binding(3) var<storage, read> page_table: array<u32>;

