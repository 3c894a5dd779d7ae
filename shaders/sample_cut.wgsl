// cut = (key, ties, weight of the key): where top-k and top-p end the order by falling key,
// rising id. (0, 0, 0) where neither is on.
//
// One workgroup computes all. Top-k ends where the count of tokens reaches k,
// top-p where the sum of their weights reaches the part top_p of those that
// top-k left. Each is found in the bins first, then by the digits of the keys
// of the one bin's members.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n_chunks]
@group(0) @binding(3) var<storage, read> chunks: array<vec4<u32>>;
// [n]
@group(0) @binding(4) var<storage, read> weights: array<vec2<u32>>;
// [N_BINS, 3]
@group(0) @binding(5) var<storage, read> bins: array<u32>;
// [n]
@group(0) @binding(6) var<storage, read_write> members: array<u32>;
// [1]
@group(0) @binding(7) var<storage, read_write> cut: array<vec4<u32>>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> n_members: atomic<u32>;
var<workgroup> low: array<atomic<u32>, WORKGROUP_SIZE>;
var<workgroup> high: array<atomic<u32>, WORKGROUP_SIZE>;
// Of the bin or digit in which the amount is reached.
var<workgroup> chosen: u32;
// What is missing from the amount before it.
var<workgroup> missing: vec2<u32>;

// A position in the order, and the sum of the weights down to it.
struct Cut {
    key: u32,
    ties: u32,
    weight: vec2<u32>,
    sum: vec2<u32>,
}

// The bin or digit, counted from the largest, at which the sum of the threads'
// amounts reaches `need`, which is above 0 and at most the sum of all: into
// `chosen`; what is missing before it, at least 1, into `missing`.
fn choose(lane: u32, amount: vec2<u32>, need: vec2<u32>) {
    let sum = wide_scan(lane, amount);
    let before = wide_subtract(sum, amount);
    if (wide_less(before, need) && !wide_less(sum, need)) {
        chosen = WORKGROUP_SIZE - 1u - lane;
        missing = wide_subtract(need, before);
    }
    workgroupBarrier();
}

// ceil(a / b), at most 2^20.
fn quotient(a: vec2<u32>, b: vec2<u32>) -> u32 {
    var rest = wide_subtract(a, vec2<u32>(1u, 0u));
    var result = 0u;
    for (var bit = 20u; bit > 0u; bit--) {
        let part = wide_shift_left(b, bit - 1u);
        if (!wide_less(rest, part)) {
            rest = wide_subtract(rest, part);
            result |= 1u << (bit - 1u);
        }
    }
    return result + 1u;
}

// What a token adds: 1 where tokens are counted, else its weight.
fn amount_of(weight: vec2<u32>, counting: bool) -> vec2<u32> {
    return select(weight, vec2<u32>(1u, 0u), counting);
}

// The cut at which the amount `need` is reached.
fn find(lane: u32, need: vec2<u32>, counting: bool, top: Top) -> Cut {
    let of_lane = (WORKGROUP_SIZE - 1u - lane) * 3u;
    let weight_of_bin = vec2<u32>(bins[of_lane + 1u], bins[of_lane + 2u]);
    choose(lane, select(weight_of_bin, vec2<u32>(bins[of_lane], 0u), counting), need);
    let bin = chosen;
    var rest = missing;
    wide_scan(lane, select(vec2<u32>(0u), weight_of_bin, WORKGROUP_SIZE - 1u - lane > bin));
    let bins_above = scanned[WORKGROUP_SIZE - 1u];

    if (lane == 0u) {
        atomicStore(&n_members, 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < shape.n; i += WORKGROUP_SIZE) {
        let weight = weights[i];
        if ((weight.x | weight.y) != 0u && bin_of(weight) == bin) {
            members[atomicAdd(&n_members, 1u)] = i;
        }
    }
    storageBarrier();
    workgroupBarrier();
    let n = atomicLoad(&n_members);
    var key = 0u;
    for (var shift = 32u; shift > 0u;) {
        shift -= 8u;
        atomicStore(&low[lane], 0u);
        atomicStore(&high[lane], 0u);
        workgroupBarrier();
        for (var i = lane; i < n; i += WORKGROUP_SIZE) {
            let id = members[i];
            let digits = order_key(logits[id]) >> shift;
            if ((digits >> 8u) == key) {
                let amount = amount_of(weights[id], counting);
                let digit = digits & 0xffu;
                let before = atomicAdd(&low[digit], amount.x);
                atomicAdd(&high[digit], amount.y + select(0u, 1u, before + amount.x < before));
            }
        }
        workgroupBarrier();
        let digit = WORKGROUP_SIZE - 1u - lane;
        choose(lane, vec2<u32>(atomicLoad(&low[digit]), atomicLoad(&high[digit])), rest);
        key = (key << 8u) | chosen;
        rest = missing;
        workgroupBarrier();
    }
    let weight = weight_of(key, top);
    let ties = quotient(rest, amount_of(weight, counting));

    // The bin's members above the key.
    var part = vec2<u32>(0u);
    for (var i = lane; i < n; i += WORKGROUP_SIZE) {
        let id = members[i];
        if (order_key(logits[id]) > key) {
            part = wide_add(part, weights[id]);
        }
    }
    wide_scan(lane, part);
    let above = wide_add(bins_above, scanned[WORKGROUP_SIZE - 1u]);
    return Cut(key, ties, weight, wide_add(above, wide_times(weight, ties)));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_cut(@builtin(local_invocation_index) lane: u32) {
    if (params.greedy != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&best_key, 0u);
        chosen = 0u;
        missing = vec2<u32>(1u, 0u);
    }
    workgroupBarrier();
    for (var chunk = lane; chunk < shape.n_chunks; chunk += WORKGROUP_SIZE) {
        atomicMax(&best_key, chunks[chunk].x);
    }
    workgroupBarrier();
    let top = top_of(atomicLoad(&best_key));
    let of_lane = lane * 3u;
    wide_scan(lane, vec2<u32>(bins[of_lane], 0u));
    let count = workgroupUniformLoad(&scanned[WORKGROUP_SIZE - 1u]).x;
    wide_scan(lane, vec2<u32>(bins[of_lane + 1u], bins[of_lane + 2u]));
    let all = workgroupUniformLoad(&scanned[WORKGROUP_SIZE - 1u]);
    var found = Cut(0u, 0u, vec2<u32>(0u), all);
    if (params.top_k < count) {
        found = find(lane, vec2<u32>(params.top_k, 0u), true, top);
    }
    if (params.top_p != 0u && count != 0u) {
        let low_part = wide_product(found.sum.x, params.top_p);
        let rounded_up = select(0u, 1u, low_part.x != 0u);
        let part = wide_add(wide_product(found.sum.y, params.top_p), vec2<u32>(low_part.y, 0u));
        found = find(lane, wide_add(part, vec2<u32>(rounded_up, 0u)), false, top);
    }
    if (lane == 0u) {
        cut[0] = vec4<u32>(found.key, found.ties, found.weight);
    }
}
