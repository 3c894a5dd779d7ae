// The token: the largest logit, or the first id at which the sum of the survivors' weights by
// rising id exceeds the share u of all; u from 0 to 1 is the next number of the generator.
//
// One workgroup computes all: it finds the chunk, then the token in it, and
// moves the state on. Ragged edge: guarded.

const RUN: u32 = CHUNK / WORKGROUP_SIZE;
const NO_TOKEN: u32 = 0xffffffffu;

struct SampleState {
    key_low: vec4<u32>,
    key_high: vec4<u32>,
    // Numbers taken from the generator.
    draws: vec2<u32>,
    // 1 after a stop id or a fault.
    stopped: u32,
    // Calls so far.
    step: u32,
}

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n]
@group(0) @binding(3) var<storage, read> weights: array<vec2<u32>>;
// [n_chunks]
@group(0) @binding(4) var<storage, read> chunks: array<vec4<u32>>;
// [1]
@group(0) @binding(5) var<storage, read> cut: array<vec4<u32>>;
// [n_chunks]
@group(0) @binding(6) var<storage, read> sums: array<vec4<u32>>;
// [1]
@group(0) @binding(7) var<storage, read_write> state: array<SampleState>;
// [n_slots] (token, fault, 0, 0)
@group(0) @binding(8) var<storage, read_write> results: array<vec4<u32>>;
// [1]
@group(0) @binding(9) var<storage, read_write> token_ids: array<u32>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_id: atomic<u32>;
var<workgroup> any_nan: atomic<u32>;
// Where the draw falls, counted from the start of what is searched.
var<workgroup> place: vec2<u32>;
var<workgroup> chunk: u32;
// Ties that survive from the chunk's start on.
var<workgroup> ties_left: u32;
var<workgroup> drawn: u32;

// As an integer below `total`: the first 53 of the generator's next 64 bits.
fn next_place(total: vec2<u32>) -> vec2<u32> {
    let draws = state[0].draws;
    var block = chacha_block(state[0].key_low, state[0].key_high, wide_shift_right(draws, 3u));
    let four = block[(draws.x >> 1u) & 3u];
    let random = select(four.xy, four.zw, (draws.x & 1u) != 0u);
    return wide_product_high(vec2<u32>(random.x & 0xfffff800u, random.y), total);
}

// Of `n` ties of which `before` come earlier, those within the first `kept`.
fn surviving(n: u32, before: u32, kept: u32) -> u32 {
    return min(n, kept - min(kept, before));
}

// The token whose share holds the draw, into `drawn`.
fn draw(lane: u32) {
    let cut_key = cut[0].x;
    let cut_weight = cut[0].zw;
    var part = vec4<u32>(0u);
    if (lane < shape.n_chunks) {
        part = sums[lane];
    }
    let ties_before = wide_scan(lane, vec2<u32>(part.z, 0u)).x - part.z;
    let ties = surviving(part.z, ties_before, cut[0].y);
    let mass = wide_add(part.xy, wide_times(cut_weight, ties));
    let end = wide_scan(lane, mass);
    if (lane == 0u) {
        place = next_place(scanned[WORKGROUP_SIZE - 1u]);
        chunk = 0u;
        ties_left = 0u;
        drawn = 0u;
    }
    workgroupBarrier();
    let start = wide_subtract(end, mass);
    let here = !wide_less(place, start) && wide_less(place, end);
    workgroupBarrier();
    if (here) {
        place = wide_subtract(place, start);
        chunk = lane;
        ties_left = surviving(cut[0].y, ties_before, cut[0].y);
    }
    workgroupBarrier();

    // A thread takes RUN ids that follow each other.
    let first = chunk * CHUNK + lane * RUN;
    let last = min(first + RUN, shape.n);
    var run_ties = 0u;
    for (var i = first; i < last; i++) {
        run_ties += select(0u, 1u, order_key(logits[i]) == cut_key);
    }
    var kept = ties_left;
    kept -= min(kept, wide_scan(lane, vec2<u32>(run_ties, 0u)).x - run_ties);
    var run = vec2<u32>(0u);
    var left = kept;
    for (var i = first; i < last; i++) {
        run = wide_add(run, survivor_weight(i, cut_key, &left));
    }
    let run_end = wide_scan(lane, run);
    let run_start = wide_subtract(run_end, run);
    if (!wide_less(place, run_start) && wide_less(place, run_end)) {
        var rest = wide_subtract(place, run_start);
        left = kept;
        for (var i = first; i < last; i++) {
            let weight = survivor_weight(i, cut_key, &left);
            if (wide_less(rest, weight)) {
                drawn = i;
                break;
            }
            rest = wide_subtract(rest, weight);
        }
    }
    workgroupBarrier();
}

// The weight of a token, or 0 if it does not survive; `ties` counts those left.
fn survivor_weight(i: u32, cut_key: u32, ties: ptr<function, u32>) -> vec2<u32> {
    let weight = weights[i];
    let key = order_key(logits[i]);
    var survives = key > cut_key;
    if (key == cut_key && *ties > 0u) {
        *ties -= 1u;
        survives = true;
    }
    return select(vec2<u32>(0u), weight, survives && !wide_less(weight, params.min_weight));
}

fn is_stop_id(token: u32) -> bool {
    var found = false;
    for (var i = 0u; i < params.n_stop_ids; i++) {
        found = found || params.stop_ids[i / 4u][i % 4u] == token;
    }
    return found;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_draw(@builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
        atomicStore(&best_key, 0u);
        atomicStore(&best_id, NO_TOKEN);
        atomicStore(&any_nan, 0u);
    }
    workgroupBarrier();
    var part = vec4<u32>(0u);
    if (lane < shape.n_chunks) {
        part = chunks[lane];
    }
    atomicMax(&best_key, part.x);
    atomicOr(&any_nan, part.z);
    workgroupBarrier();
    let key = atomicLoad(&best_key);
    if (lane < shape.n_chunks && part.x == key) {
        atomicMin(&best_id, part.y);
    }
    workgroupBarrier();
    var token = atomicLoad(&best_id);
    if (params.greedy == 0u) {
        draw(lane);
        token = drawn;
    }
    if (lane == 0u) {
        let fault = atomicLoad(&any_nan) != 0u || key <= KEY_MINUS_INFINITY || key >= KEY_PLUS_INFINITY;
        let slot = state[0].step % shape.n_slots;
        state[0].step += 1u;
        if (state[0].stopped != 0u) {
            results[slot] = vec4<u32>(NO_TOKEN, 0u, 0u, 0u);
        } else if (fault) {
            state[0].stopped = 1u;
            results[slot] = vec4<u32>(NO_TOKEN, 1u, 0u, 0u);
        } else {
            if (params.greedy == 0u) {
                state[0].draws = wide_add(state[0].draws, vec2<u32>(1u, 0u));
            }
            state[0].stopped = select(0u, 1u, is_stop_id(token));
            results[slot] = vec4<u32>(token, 0u, 0u, 0u);
            token_ids[0] = token;
        }
    }
}
