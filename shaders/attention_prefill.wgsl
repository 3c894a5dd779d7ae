// out[item, :] = sum over visible j of p[j] * v[j, kv_head],
// where p = softmax over visible j of cap(scale * q[item] . k[j, kv_head])
// (online softmax in f32: Milakov and Gimelshein 2018; tiled: Dao et al. 2022)
//
// An item is a pair of a row and one of the `group` query heads that share a KV head. One
// workgroup computes 16 items of one KV head, with eight threads per item. Keys are
// processed in tiles of 32 that start at multiples of 32, and sequences are processed one
// after another. The sums of a row therefore depend neither on its chunk nor on rows of
// other sequences in the same pass. A tile is skipped if no row of a sequence sees it,
// because it is above the diagonal or before the window. HEAD_DIM passes through
// workgroup memory in pieces of 32, so any head size fits.
// Ragged edge: missing items, keys and elements are loaded as zeros, masked and not
// stored. The same applies to keys before the window, whose pages may already belong to
// other sequences.
//
// Fragments in common/: step, pack_f16 | pack_f32, load_plain, rows_chunk | rows_batch,
// softmax, kv_layout, kv_by_8, kv_read_1 | kv_read_4, window, soft_cap, attention.

// 128 threads, eight per item.
const_assert ITEMS == 16u;
const KEYS: u32 = 32u;
const PIECES: u32 = (HEAD_DIM + 31u) / 32u;
const PACKS: u32 = HEAD_DIM / 8u;

// [n_rows, 4 * out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// [ITEMS, 32]
var<workgroup> tile_q: array<vec4<f32>, ITEMS * 8u>;
// [KEYS, 32]: a piece of the keys, then of the values
var<workgroup> tile_kv: array<vec4<f32>, KEYS * 8u>;
// [ITEMS, KEYS]: scores, then weights
var<workgroup> scores: array<f32, ITEMS * KEYS>;

// Positions that at least one row of a run sees: from `first` on, and before `end`.
struct Seen {
    row: u32,
    first: u32,
    end: u32,
}

// Loads one piece of k (part 0) or v (part 1) for 32 keys of a run, one Pack per thread.
fn load_tile(seen: Seen, part: u32, kv_head: u32, first_key: u32, piece: u32, lane: u32) {
    let key = first_key + lane / 4u;
    let pack = piece * 4u + lane % 4u;
    var value = mat2x4<f32>();
    if (key >= seen.first && key < seen.end && pack < PACKS) {
        let entry = page_table[row_page(seen.row, key / PAGE_SIZE)];
        let run = kv_run(entry, part, kv_head, params.n_kv_head);
        value = kv_load(kv_slab(entry), run + (key % PAGE_SIZE) * PACKS + pack);
    }
    tile_kv[lane * 2u] = value[0];
    tile_kv[lane * 2u + 1u] = value[1];
}

@compute @workgroup_size(128)
fn attention_prefill(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y;
    let first_item = group.x * ITEMS;
    let n_items = step.n_rows * params.group;
    let last_row = (min(first_item + ITEMS, n_items) - 1u) / params.group;
    let thread_item = lane / 8u;
    let thread_column = lane % 8u;
    let item = first_item + thread_item;
    let row = item / params.group;
    let head = kv_head * params.group + item % params.group;
    // The row sees the positions from `own_first` on, and before `own_end`.
    let own_end = row_position(row) + 1u;
    let own_first = first_seen(own_end, params.window);
    // The four keys of this thread are 8 apart.
    let offsets = vec4<u32>(0u, 8u, 16u, 24u) + thread_column;
    var run = first_item / params.group;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        let seen = Seen(run, first_seen(row_position(run) + 1u, params.window), row_position(run_end) + 1u);
        var acc: array<vec4<f32>, PIECES>;
        for (var piece = 0u; piece < PIECES; piece++) {
            acc[piece] = vec4<f32>(0.0);
        }
        var running_max = MASKED;
        var running_sum = 0.0;

        for (var first_key = seen.first / KEYS * KEYS; first_key < seen.end; first_key += KEYS) {
            let tile_keys = min(KEYS, seen.end - first_key);
            var score = vec4<f32>(0.0);
            for (var piece = 0u; piece * 4u < params.packs; piece++) {
                var q = vec4<f32>(0.0);
                if (item < n_items && piece * 8u + thread_column < HEAD_DIM / 4u) {
                    q = load4(qkv[row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + piece * 8u + thread_column]);
                }
                tile_q[lane] = q;
                load_tile(seen, 0u, kv_head, first_key, piece, lane);
                workgroupBarrier();
                let n_vec4 = min(8u, 2u * params.packs - piece * 8u);
                for (var i = 0u; i < n_vec4; i++) {
                    let a = tile_q[thread_item * 8u + i];
                    score.x += dot(a, tile_kv[offsets.x * 8u + i]);
                    score.y += dot(a, tile_kv[offsets.y * 8u + i]);
                    score.z += dot(a, tile_kv[offsets.z * 8u + i]);
                    score.w += dot(a, tile_kv[offsets.w * 8u + i]);
                }
                workgroupBarrier();
            }
            let keys = first_key + offsets;
            let visible = (keys >= vec4<u32>(own_first)) & (keys < vec4<u32>(own_end));
            score = select(vec4<f32>(MASKED), capped(score * params.scale), visible);
            for (var i = 0u; i < 4u; i++) {
                scores[thread_item * KEYS + offsets[i]] = score[i];
            }
            workgroupBarrier();
            var new_max = running_max;
            for (var i = 0u; i < tile_keys; i++) {
                new_max = max(new_max, scores[thread_item * KEYS + i]);
            }
            workgroupBarrier();
            for (var i = 0u; i < 4u; i++) {
                scores[thread_item * KEYS + offsets[i]] = select(0.0, exp_nonpositive(score[i] - new_max), visible[i]);
            }
            workgroupBarrier();
            let correction = exp_nonpositive(running_max - new_max);
            running_max = new_max;
            running_sum *= correction;
            for (var i = 0u; i < tile_keys; i++) {
                running_sum += scores[thread_item * KEYS + i];
            }
            for (var piece = 0u; piece < PIECES; piece++) {
                load_tile(seen, 1u, kv_head, first_key, piece, lane);
                workgroupBarrier();
                var sum = acc[piece] * correction;
                for (var i = 0u; i < tile_keys; i++) {
                    sum += scores[thread_item * KEYS + i] * tile_kv[i * 8u + thread_column];
                }
                acc[piece] = sum;
                workgroupBarrier();
            }
        }
        if (row >= run && row <= run_end) {
            for (var piece = 0u; piece < PIECES; piece++) {
                let element4 = piece * 8u + thread_column;
                if (element4 < HEAD_DIM / 4u) {
                    out[row * params.out_stride4 + head * (HEAD_DIM / 4u) + element4] = acc[piece] / running_sum;
                }
            }
        }
        run = run_end + 1u;
    }
}
