// Each thread reads eight elements of a gemv input alone, as two shares of four.
alias Load = vec4<f32>;
alias Share = vec4<f32>;
const SHARES: u32 = 2u;

fn load_share(value: Load) -> Share {
    return value;
}

// Returns which elements of a row's share number `at` are among the row's first n
// elements.
fn share_below(at: u32, n: u32) -> vec4<bool> {
    let first = 4u * at;
    return vec4<u32>(first, first + 1u, first + 2u, first + 3u) < vec4<u32>(n);
}

// Returns the sum of the shares of all threads that read together. Here it is one thread.
fn sum_shares(own: Share) -> f32 {
    return dot(own, Share(1.0));
}

fn input8(slot: u32, row: u32, k8: u32, lane: Lane) -> mat2x4<f32> {
    return mat2x4<f32>(input(slot, row, 2u * k8), input(slot, row, 2u * k8 + 1u));
}

