// Four threads read eight elements of a gemv input together. Each loads two f32 with one
// 64-bit load and shares them within the subgroup. Software adapters load lane by lane,
// even if all lanes need the same value. Together, the threads need one load per lane
// instead of eight 32-bit loads, and a broadcast stays in registers. A WebGPU subgroup
// has at least four threads. All of them call these functions in uniform control flow.
alias Load = u64;
alias Share = vec2<f32>;
const SHARES: u32 = 4u;

fn load_share(value: Load) -> Share {
    return vec2<f32>(bitcast<f32>(u32(value)), bitcast<f32>(u32(value >> 32u)));
}

// Returns which elements of a row's share number `at` are among the row's first n
// elements.
fn share_below(at: u32, n: u32) -> vec2<bool> {
    return vec2<u32>(2u * at, 2u * at + 1u) < vec2<u32>(n);
}

// Returns the sum of the shares of all threads that read together.
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

