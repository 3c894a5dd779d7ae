// What the three kernels of prefill attention for CPU adapters agree on. An item is a row
// with one of the `group` heads of q that share a kv head. Items come in blocks of four;
// rows of one sequence within a block are a run.

const_assert ITEMS == 4u;

struct Items {
    // The block's numbers, also beyond the last item.
    own: vec4<u32>,
    // The same, the last item in place of those beyond it.
    items: vec4<u32>,
    rows: vec4<u32>,
    // Heads of q.
    heads: vec4<u32>,
}

fn items_of(block: u32, kv_head: u32) -> Items {
    let own = vec4<u32>(block * ITEMS) + vec4<u32>(0u, 1u, 2u, 3u);
    let items = min(own, vec4<u32>(step.n_rows * params.group - 1u));
    let heads = vec4<u32>(kv_head * params.group) + items % params.group;
    return Items(own, items, items / params.group, heads);
}

// Which items are of a run, each once: those of others are stored in their turn.
fn of_run(block: Items, run: u32, run_end: u32) -> vec4<bool> {
    let inside = (block.rows >= vec4<u32>(run)) & (block.rows <= vec4<u32>(run_end));
    return inside & (block.own == block.items);
}

// The position that a run's scores begin with: that of the KEYS that its first row begins
// to see.
fn scores_start(run: u32) -> u32 {
    return first_seen(row_position(run) + 1u, params.window) / KEYS * KEYS;
}

// Where items' scores begin, in vec4: [n_kv_head, score_items, score_keys / 4]
fn scores_of(kv_head: u32, items: vec4<u32>) -> vec4<u32> {
    return (vec4<u32>(kv_head * params.score_items) + items) * (params.score_keys / 4u);
}
