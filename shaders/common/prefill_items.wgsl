// Definitions shared by the three prefill attention kernels for software adapters. An
// item is a pair of a row and one of the `group` query heads that share a KV head. Items
// are divided into blocks of four. The rows of one sequence within a block are a run.

const_assert ITEMS == 4u;

struct Items {
    // Item numbers of the block, including numbers beyond the last item.
    own: vec4<u32>,
    // The same numbers, but at most the last item.
    items: vec4<u32>,
    rows: vec4<u32>,
    // Query heads.
    heads: vec4<u32>,
}

fn items_of(block: u32, kv_head: u32) -> Items {
    let own = vec4<u32>(block * ITEMS) + vec4<u32>(0u, 1u, 2u, 3u);
    let items = min(own, vec4<u32>(step.n_rows * params.group - 1u));
    let heads = vec4<u32>(kv_head * params.group) + items % params.group;
    return Items(own, items, items / params.group, heads);
}

// Returns which items belong to a run. Items beyond the last one are excluded, so each
// item is stored once.
fn of_run(block: Items, run: u32, run_end: u32) -> vec4<bool> {
    let inside = (block.rows >= vec4<u32>(run)) & (block.rows <= vec4<u32>(run_end));
    return inside & (block.own == block.items);
}

// Returns the position at which a run's scores start: the first position that the run's
// first row sees, rounded down to a multiple of KEYS.
fn scores_start(run: u32) -> u32 {
    return first_seen(row_position(run) + 1u, params.window) / KEYS * KEYS;
}

// Returns the indices at which the items' scores start, in vec4, in [n_kv_head,
// score_items, score_keys / 4].
fn scores_of(kv_head: u32, items: vec4<u32>) -> vec4<u32> {
    return (vec4<u32>(kv_head * params.score_items) + items) * (params.score_keys / 4u);
}
