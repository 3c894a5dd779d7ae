// Parameters, inputs, order and weights of logits for the score kernels.
//
// Weights are exp(logit - max), where max is the largest of the summed logits, so none
// overflows. The code subtracts halves of logits, because the difference of two logits
// may exceed f32. NaN and infinity are detected by their bits, because compilers may
// assume that they do not occur.
struct ScoreParams {
    // Logits per row.
    n: u32,
    // Length of a row divided by 4.
    stride4: u32,
    // Partial results per row.
    n_partials: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: ScoreParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, 4 * stride4]
@group(0) @binding(2) var<storage, read> logits: array<vec4<u32>>;
// [first_row + n_rows]
@group(0) @binding(3) var<storage, read> targets: array<u32>;

// Returns the key of a logit. NaN of either sign is above all others.
fn score_key(bits: u32) -> u32 {
    return select(order_key(bits), 0xffffffffu, (bits & 0x7fffffffu) > 0x7f800000u);
}

fn score_ids(i: u32) -> vec4<u32> {
    return vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u);
}

// Returns the keys of four logits. In the padding of a row they are 0, below all others.
fn score_keys(bits: vec4<u32>, ids: vec4<u32>) -> vec4<u32> {
    let keys = vec4<u32>(score_key(bits.x), score_key(bits.y), score_key(bits.z), score_key(bits.w));
    return select(vec4<u32>(0u), keys, ids < vec4<u32>(params.n));
}

fn half_logit(key: u32) -> f32 {
    return 0.5 * bitcast<f32>(bits_of_key(key));
}

// Returns exp(logit - max); 0 for minus infinity and padding.
fn score_weights(bits: vec4<u32>, keys: vec4<u32>, half_max: f32) -> vec4<f32> {
    // e^-100 is negligible compared to the maximum's weight of 1.
    let below = max(0.5 * bitcast<vec4<f32>>(bits) - half_max, vec4<f32>(-50.0));
    return select(vec4<f32>(0.0), exp(2.0 * below), keys > vec4<u32>(KEY_MINUS_INFINITY));
}

struct ScoreTarget {
    id: u32,
    key: u32,
}

fn score_target(row: u32) -> ScoreTarget {
    let id = targets[step.first_row + row];
    return ScoreTarget(id, score_key(logits[row * params.stride4 + id / 4u][id % 4u]));
}

// Returns 1 for logits that come before the target: larger ones, and equal ones with a
// lower id.
fn score_above(ids: vec4<u32>, keys: vec4<u32>, target_logit: ScoreTarget) -> vec4<u32> {
    let key = vec4<u32>(target_logit.key);
    let before = (keys > key) | ((keys == key) & (ids < vec4<u32>(target_logit.id)));
    return select(vec4<u32>(0u), vec4<u32>(1u), before);
}

// A thread's largest key and its lowest id, for each component of a vec4.
struct ScoreBest {
    keys: vec4<u32>,
    ids: vec4<u32>,
}

fn score_better(best: ScoreBest, keys: vec4<u32>, ids: vec4<u32>) -> ScoreBest {
    // Ids increase, so a later equal key never wins.
    let wins = keys > best.keys;
    return ScoreBest(select(best.keys, keys, wins), select(best.ids, ids, wins));
}

// Returns the largest of the four keys with its lowest id.
fn score_best(best: ScoreBest) -> vec2<u32> {
    var found = vec2<u32>(best.keys.x, best.ids.x);
    for (var i = 1u; i < 4u; i++) {
        let other = vec2<u32>(best.keys[i], best.ids[i]);
        if (other.x > found.x || (other.x == found.x && other.y < found.y)) {
            found = other;
        }
    }
    return found;
}
