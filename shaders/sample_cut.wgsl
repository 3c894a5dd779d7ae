// cut = (key, ties, weight of the key): the end of the prefix that top-k and top-p keep,
// in descending order of key, then ascending order of id. It is (0, 0, 0) if neither is
// on.
//
// One workgroup does all the work. Top-k ends where the count of tokens reaches k. Top-p
// ends where the sum of the tokens' weights reaches the fraction top_p of the weight that
// top-k kept. Each end is found in five levels: first among the bins, then by the four
// digits of the keys of that bin's tokens, which one pass over all weights has gathered.
// A single loop handles all levels, because software adapters compile barriers slowly.
//
// Fragments in common/: sample, order_key, wide, scan_pair, sample_weight.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n_chunks]
@group(0) @binding(3) var<storage, read> chunks: array<vec4<u32>>;
// [n_chunks * CHUNK / 2]: pairs, 0 from n on
@group(0) @binding(4) var<storage, read> weights: array<vec4<u32>>;
// [N_BINS, 3]
@group(0) @binding(5) var<storage, read> bins: array<u32>;
// [n]
@group(0) @binding(6) var<storage, read_write> members: array<u32>;
// [1]
@group(0) @binding(7) var<storage, read_write> cut: array<vec4<u32>>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> n_members: atomic<u32>;
// For each digit: the number of tokens with it, and the sum of their weights.
var<workgroup> counts: array<atomic<u32>, WORKGROUP_SIZE>;
var<workgroup> low: array<atomic<u32>, WORKGROUP_SIZE>;
var<workgroup> high: array<atomic<u32>, WORKGROUP_SIZE>;
// The bin or digit at which a level ends, the amount that is missing before it, and the
// sum of the weights before it.
var<workgroup> chosen: u32;
var<workgroup> missing: vec2<u32>;
var<workgroup> before_chosen: vec2<u32>;

// Returns ceil(a / b), at most 2^20.
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

// Returns floor(a * part / 2^32). It is above 0, because the largest weight is about
// 2^42.
fn part_of(a: vec2<u32>, part: u32) -> vec2<u32> {
    return wide_add(wide_product(a.y, part), vec2<u32>(wide_product(a.x, part).y, 0u));
}

fn gather_one(id: u32, weight: vec2<u32>, first_bin: u32, last_bin: u32) {
    if ((weight.x | weight.y) != 0u) {
        let bin = bin_of(weight);
        if (bin >= first_bin && bin <= last_bin) {
            members[atomicAdd(&n_members, 1u)] = id;
        }
    }
}

// Collects the tokens of the bins `first_bin` to `last_bin` in `members`, in any order.
// All loads of a chunk precede the code that depends on them, so that a GPU has them in
// flight at once.
fn gather(lane: u32, first_bin: u32, last_bin: u32) {
    for (var chunk = 0u; chunk < shape.n_chunks; chunk++) {
        let first = chunk * (CHUNK / 2u) + lane;
        let pairs = array<vec4<u32>, 4>(
            weights[first],
            weights[first + WORKGROUP_SIZE],
            weights[first + 2u * WORKGROUP_SIZE],
            weights[first + 3u * WORKGROUP_SIZE]
        );
        for (var i = 0u; i < 4u; i++) {
            let id = 2u * (first + i * WORKGROUP_SIZE);
            gather_one(id, pairs[i].xy, first_bin, last_bin);
            gather_one(id + 1u, pairs[i].zw, first_bin, last_bin);
        }
    }
}

fn add_to_digit(digit: u32, count: u32, weight: vec2<u32>) {
    atomicAdd(&counts[digit], count);
    let before = atomicAdd(&low[digit], weight.x);
    atomicAdd(&high[digit], weight.y + select(0u, 1u, before + weight.x < before));
}

// Adds up the members of a bin by the last digit of `key >> shift`. Only members whose
// earlier digits are `prefix` count. Most members share their first digits, so a thread
// adds up successive members with the same digit before it adds to the digit's sum.
fn tally(lane: u32, bin: u32, prefix: u32, shift: u32) {
    let n = atomicLoad(&n_members);
    var digit = 0u;
    var count = 0u;
    var sum = vec2<u32>(0u);
    for (var i = lane; i < n; i += WORKGROUP_SIZE) {
        let id = members[i];
        let pair = weights[id / 2u];
        let weight = select(pair.xy, pair.zw, (id & 1u) != 0u);
        let digits = order_key(logits[id]) >> shift;
        if ((digits >> 8u) == prefix && bin_of(weight) == bin) {
            if ((digits & 0xffu) != digit && count != 0u) {
                add_to_digit(digit, count, sum);
                count = 0u;
                sum = vec2<u32>(0u);
            }
            digit = digits & 0xffu;
            count += 1u;
            sum = wide_add(sum, weight);
        }
    }
    if (count != 0u) {
        add_to_digit(digit, count, sum);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_cut(@builtin(local_invocation_index) lane: u32) {
    if (params.greedy != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&best_key, 0u);
        atomicStore(&n_members, 0u);
        chosen = 0u;
        missing = vec2<u32>(1u, 0u);
        before_chosen = vec2<u32>(0u);
    }
    workgroupBarrier();
    for (var chunk = lane; chunk < shape.n_chunks; chunk += WORKGROUP_SIZE) {
        atomicMax(&best_key, chunks[chunk].x);
    }
    // Stage 0 is top-k, stage 1 is top-p.
    let first_stage = select(1u, 0u, params.top_k != 0xffffffffu);
    let end_stage = select(1u, 2u, params.top_p != 0u);
    let mine = WORKGROUP_SIZE - 1u - lane;
    var key = 0u;
    var ties = 0u;
    var weight = vec2<u32>(0u);
    // The weight of all tokens down to the cut.
    var sum = vec2<u32>(0u);
    for (var stage = first_stage; stage < end_stage; stage++) {
        let by_count = stage == 0u;
        let kept = sum;
        var bin = 0u;
        var rest = vec2<u32>(0u);
        key = 0u;
        sum = vec2<u32>(0u);
        for (var level = 0u; level < 5u; level++) {
            var part = vec4<u32>(bins[mine * 3u], 0u, bins[mine * 3u + 1u], bins[mine * 3u + 2u]);
            if (level > 0u) {
                atomicStore(&counts[lane], 0u);
                atomicStore(&low[lane], 0u);
                atomicStore(&high[lane], 0u);
                workgroupBarrier();
                tally(lane, bin, key, 32u - 8u * level);
                workgroupBarrier();
                part = vec4<u32>(atomicLoad(&counts[mine]), 0u, atomicLoad(&low[mine]), atomicLoad(&high[mine]));
            }
            let scanned = scan_pair(lane, part);
            if (level == 0u) {
                let total = select(kept, scanned.total.zw, stage == first_stage);
                rest = part_of(total, params.top_p);
                if (by_count) {
                    rest = vec2<u32>(min(params.top_k, scanned.total.x), 0u);
                }
            }
            // The first bin or digit at which the sum reaches the amount.
            let through = select(scanned.sum.zw, scanned.sum.xy, by_count);
            let before = wide_subtract(through, select(part.zw, part.xy, by_count));
            if (wide_less(before, rest) && !wide_less(through, rest)) {
                chosen = mine;
                missing = wide_subtract(rest, before);
                before_chosen = wide_subtract(scanned.sum.zw, part.zw);
            }
            workgroupBarrier();
            rest = missing;
            sum = wide_add(sum, before_chosen);
            if (level == 0u) {
                bin = chosen;
                if (stage == first_stage) {
                    // Top-p ends in the bin of top-k or in a higher one.
                    gather(lane, bin, select(bin, WORKGROUP_SIZE - 1u, by_count));
                }
            } else {
                key = (key << 8u) | chosen;
            }
            // The storage barrier is for `members`.
            storageBarrier();
            workgroupBarrier();
        }
        weight = weight_of(key, top_of(atomicLoad(&best_key)));
        ties = quotient(rest, select(weight, vec2<u32>(1u, 0u), by_count));
        sum = wide_add(sum, wide_times(weight, ties));
    }
    if (lane == 0u) {
        cut[0] = vec4<u32>(key, ties, weight);
    }
}
