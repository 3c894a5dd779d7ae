// Selects the token. In greedy mode it is the largest logit. Otherwise it is the first id
// at which the sum of the survivors' weights, in order of id, exceeds the fraction u of
// their total. u is the generator's next number, from 0 to 1.
//
// One workgroup does all the work: it finds the chunk, then the token in it, and advances
// the state. With GREEDY_ONLY the program does not contain the draw.
// Ragged edge: guarded.
//
// Fragments in common/: sample, order_key, wide, survivors, scan_pair, chacha.

const RUN: u32 = CHUNK / WORKGROUP_SIZE;
const NO_TOKEN: u32 = 0xffffffffu;

struct SampleState {
    key_low: vec4<u32>,
    key_high: vec4<u32>,
    // Numbers taken from the generator so far.
    draws: vec2<u32>,
    // 1 after a stop id or a fault.
    stopped: u32,
    // Calls so far.
    step: u32,
}

// [n_chunks]
@group(0) @binding(5) var<storage, read> chunks: array<vec4<u32>>;
// [n_chunks]
@group(0) @binding(6) var<storage, read> sums: array<vec4<u32>>;
// [1]
@group(0) @binding(7) var<storage, read_write> state: array<SampleState>;
// [n_slots]: (token, fault, 0, 0)
@group(0) @binding(8) var<storage, read_write> results: array<vec4<u32>>;
// [1]
@group(0) @binding(9) var<storage, read_write> token_ids: array<u32>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_id: atomic<u32>;
var<workgroup> any_nan: atomic<u32>;
// The place of the draw in the sum of all survivors' weights.
var<workgroup> place: vec2<u32>;
// The chunk that contains this place, and the sum over the chunks before it.
var<workgroup> chunk: u32;
var<workgroup> base: vec4<u32>;
var<workgroup> drawn: u32;

// Returns the draw as an integer below `total`, from the upper 53 of the generator's next
// 64 bits.
fn next_place(total: vec2<u32>) -> vec2<u32> {
    let draws = state[0].draws;
    var block = chacha_block(state[0].key_low, state[0].key_high, wide_shift_right(draws, 3u));
    let four = block[(draws.x >> 1u) & 3u];
    let random = select(four.xy, four.zw, (draws.x & 1u) != 0u);
    return wide_product_high(vec2<u32>(random.x & 0xfffff800u, random.y), total);
}

fn holds_place(before: vec4<u32>, through: vec4<u32>) -> bool {
    return !wide_less(place, surviving_weight(before)) && wide_less(place, surviving_weight(through));
}

// Sets `drawn` to the token whose share contains the draw.
fn draw(lane: u32) {
    var part = vec4<u32>(0u);
    if (lane < shape.n_chunks) {
        part = sums[lane];
    }
    let chunks_scanned = scan_pair(lane, part);
    if (lane == 0u) {
        place = next_place(surviving_weight(chunks_scanned.total));
        chunk = 0u;
        base = vec4<u32>(0u);
        drawn = 0u;
    }
    workgroupBarrier();
    let before_chunk = subtract_pair(chunks_scanned.sum, part);
    if (holds_place(before_chunk, chunks_scanned.sum)) {
        chunk = lane;
        base = before_chunk;
    }
    workgroupBarrier();

    // A thread processes RUN consecutive ids.
    let first = chunk * CHUNK + lane * RUN;
    let last = min(first + RUN, shape.n);
    part = vec4<u32>(0u);
    for (var id = first; id < last; id++) {
        part = add_pair(part, survivor(id));
    }
    let through = add_pair(base, scan_pair(lane, part).sum);
    var sum = subtract_pair(through, part);
    if (holds_place(sum, through)) {
        for (var id = first; id < last; id++) {
            sum = add_pair(sum, survivor(id));
            if (wide_less(place, surviving_weight(sum))) {
                drawn = id;
                break;
            }
        }
    }
    workgroupBarrier();
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
    if (GREEDY_ONLY == 0u && params.greedy == 0u) {
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
