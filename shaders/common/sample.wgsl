// Sizes, parameters and the cut, shared by the sampler's kernels.
//
// The weight of a token is 2^42 exp((logit - max) / temperature) as an integer, so sums
// are exact and independent of their order. Tokens are ordered descending by key, then
// ascending by id. The cut ends a prefix of this order: all tokens above the cut's key,
// then the first `ties` tokens at that key. The survivors of the filters are the tokens
// in the prefix whose weight is at least min_weight.
const CHUNK: u32 = 2048u;

struct SampleShape {
    n: u32,
    n_chunks: u32,
    n_slots: u32,
    unused: u32,
}

struct SampleParams {
    // 1 selects the largest logit.
    greedy: u32,
    // Tokens that top-k keeps.
    top_k: u32,
    // top_p * 2^32; 0 means off.
    top_p: u32,
    // Distances between logits are counted in units of 2^lsb. One unit is scale / 2^64
    // octaves between the weights.
    lsb: i32,
    scale: u32,
    n_stop_ids: u32,
    // min_p times the largest weight.
    min_weight: vec2<u32>,
    stop_ids: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> shape: SampleShape;
@group(0) @binding(1) var<uniform> params: SampleParams;
