// What the kernels of the sampler share: sizes, parameters, the cut.
//
// The weight of a token is 2^42 exp((logit - max) / temperature) as an integer,
// so that sums are exact and do not depend on their order. The survivors of
// the filters are a prefix of the order by falling key, rising id: all tokens
// above the cut's key, the first ties of those at it, and of these all that
// reach min_weight.
const CHUNK: u32 = 2048u;

struct SampleShape {
    n: u32,
    n_chunks: u32,
    n_slots: u32,
    unused: u32,
}

struct SampleParams {
    // 1: the largest logit.
    greedy: u32,
    // Tokens that top-k keeps.
    top_k: u32,
    // top_p * 2^32; 0 is off.
    top_p: u32,
    // A distance of 2^lsb between two logits, the unit of distances, is one of
    // scale / 2^64 octaves between their weights.
    lsb: i32,
    scale: u32,
    n_stop_ids: u32,
    // min_p times the largest weight.
    min_weight: vec2<u32>,
    stop_ids: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> shape: SampleShape;
@group(0) @binding(1) var<uniform> params: SampleParams;
