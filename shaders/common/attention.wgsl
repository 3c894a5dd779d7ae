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
    // Room for partial results of a head; the decode kernels alone read it.
    max_splits: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}


@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> page_table: array<u32>;

