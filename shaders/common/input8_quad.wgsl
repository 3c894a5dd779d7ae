// Eight elements of a gemv's input where four threads read them together, two f32 in
// one load of 64 bits each, and pass them on within the subgroup. CPU adapters load
// lane by lane, whether or not all lanes want the same: eight elements take one load a
// lane in place of eight of 32 bits, and a broadcast stays in registers. A subgroup of
// WebGPU has four threads or more; all of them call in uniform control flow.
alias Load = u64;
alias Share = vec2<f32>;
const SHARES: u32 = 4u;

fn load_share(value: Load) -> Share {
    return vec2<f32>(bitcast<f32>(u32(value)), bitcast<f32>(u32(value >> 32u)));
}

// Which elements of a row's share number `at` are among the first n.
fn share_below(at: u32, n: u32) -> vec2<bool> {
    return vec2<u32>(2u * at, 2u * at + 1u) < vec2<u32>(n);
}

// The shares of all threads that read together, added up.
fn sum_shares(own: Share) -> f32 {
    let sum = own.x + own.y;
    let first = subgroupBroadcast(sum, 0u) + subgroupBroadcast(sum, 1u);
    return first + (subgroupBroadcast(sum, 2u) + subgroupBroadcast(sum, 3u));
}

fn input8(slot: u32, row: u32, k8: u32, lane: Lane) -> mat2x4<f32> {
    let own = input(slot, row, SHARES * k8 + lane.in_subgroup % SHARES);
    return mat2x4<f32>(
        vec4<f32>(
            subgroupBroadcast(own.x, 0u),
            subgroupBroadcast(own.y, 0u),
            subgroupBroadcast(own.x, 1u),
            subgroupBroadcast(own.y, 1u),
        ),
        vec4<f32>(
            subgroupBroadcast(own.x, 2u),
            subgroupBroadcast(own.y, 2u),
            subgroupBroadcast(own.x, 3u),
            subgroupBroadcast(own.y, 3u),
        ),
    );
}

