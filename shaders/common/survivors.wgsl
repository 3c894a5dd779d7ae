// The survivors of the filters, and the sum of their weights up to a token in order of id.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n_chunks * CHUNK]: 0 from n on
@group(0) @binding(3) var<storage, read> weights: array<vec2<u32>>;
// [1]: (key, ties, weight of the key)
@group(0) @binding(4) var<storage, read> cut: array<vec4<u32>>;

// Returns the contribution of a token below n to the sum: its weight if its key is above
// the cut's, a count of 1 if the keys are equal, nothing if its weight is below
// min_weight.
fn survivor(id: u32) -> vec4<u32> {
    let weight = weights[id];
    let key = order_key(logits[id]);
    var part = vec4<u32>(0u);
    if (!wide_less(weight, params.min_weight)) {
        if (key > cut[0].x) {
            part = vec4<u32>(weight, 0u, 0u);
        } else if (key == cut[0].x) {
            part = vec4<u32>(0u, 0u, 1u, 0u);
        }
    }
    return part;
}

// Returns the total weight of a sum. Of the tokens at the cut's key, the first `ties`
// count.
fn surviving_weight(sum: vec4<u32>) -> vec2<u32> {
    return wide_add(sum.xy, wide_times(cut[0].zw, min(sum.z, cut[0].y)));
}
