// out[row, head, :] = sum over j <= position of row of softmax_j(scale * q[row, head] . k[j, head]) * v[j, head]
// (online softmax in f32: Milakov and Gimelshein 2018; tiled: Dao et al. 2022)
//
// One workgroup computes 16 rows of one head, eight threads a row; keys come
// in tiles of 32 that start at multiples of 32, so that a row's sums do not
// depend on the chunk it came in, nor on what other sequences' rows are beside it:
// these are treated one sequence after the other. Tiles above the diagonal of a
// sequence's last row are skipped. HEAD_DIM passes through workgroup memory in
// pieces of 32, so that any head fits. Ragged edge: missing rows, keys and
// elements are loaded as zeros, masked and not stored.

// 128 threads, eight a row.
const_assert ROWS == 16u;
const KEYS: u32 = 32u;
const PIECES: u32 = (HEAD_DIM + 31u) / 32u;
const PACKS: u32 = HEAD_DIM / 8u;

// [n_rows, 4 * out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// [ROWS, 32]
var<workgroup> tile_q: array<vec4<f32>, ROWS * 8u>;
// [KEYS, 32]: a piece of the keys, then of the values
var<workgroup> tile_kv: array<vec4<f32>, KEYS * 8u>;
// [ROWS, KEYS]: scores, then weights
var<workgroup> scores: array<f32, ROWS * KEYS>;

// Loads one piece of k (part 0) or v (part 1) of 32 keys of the row's sequence: a
// Pack a thread.
fn load_tile(row: u32, n_keys: u32, part: u32, head: u32, first_key: u32, piece: u32, lane: u32) {
    let key = first_key + lane / 4u;
    let pack = piece * 4u + lane % 4u;
    var value = mat2x4<f32>();
    if (key < n_keys && pack < PACKS) {
        let entry = page_table[row_page(row, key / PAGE_SIZE)];
        let run = kv_run(entry, part, head, params.n_head);
        value = kv_load(kv_slab(entry), run + (key % PAGE_SIZE) * PACKS + pack);
    }
    tile_kv[lane * 2u] = value[0];
    tile_kv[lane * 2u + 1u] = value[1];
}

@compute @workgroup_size(128)
fn attention_prefill(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let first_row = group.x * ROWS;
    let thread_row = lane / 8u;
    let thread_column = lane % 8u;
    let row = first_row + thread_row;
    let last_row = min(first_row + ROWS, step.n_rows) - 1u;
    // Keys of this thread: four, 8 apart.
    let offsets = vec4<u32>(0u, 8u, 16u, 24u) + thread_column;
    var run = first_row;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        let n_keys = row_position(run_end) + 1u;
        var acc: array<vec4<f32>, PIECES>;
        for (var piece = 0u; piece < PIECES; piece++) {
            acc[piece] = vec4<f32>(0.0);
        }
        var running_max = MASKED;
        var running_sum = 0.0;

        for (var first_key = 0u; first_key < n_keys; first_key += KEYS) {
            let tile_keys = min(KEYS, n_keys - first_key);
            var score = vec4<f32>(0.0);
            for (var piece = 0u; piece * 4u < params.packs; piece++) {
                var q = vec4<f32>(0.0);
                if (row < step.n_rows && piece * 8u + thread_column < HEAD_DIM / 4u) {
                    q = load4(qkv[row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + piece * 8u + thread_column]);
                }
                tile_q[lane] = q;
                load_tile(run, n_keys, 0u, head, first_key, piece, lane);
                workgroupBarrier();
                let n_vec4 = min(8u, 2u * params.packs - piece * 8u);
                for (var i = 0u; i < n_vec4; i++) {
                    let a = tile_q[thread_row * 8u + i];
                    score.x += dot(a, tile_kv[offsets.x * 8u + i]);
                    score.y += dot(a, tile_kv[offsets.y * 8u + i]);
                    score.z += dot(a, tile_kv[offsets.z * 8u + i]);
                    score.w += dot(a, tile_kv[offsets.w * 8u + i]);
                }
                workgroupBarrier();
            }
            let visible = (first_key + offsets) <= vec4<u32>(row_position(row));
            score = select(vec4<f32>(MASKED), score * params.scale, visible);
            for (var i = 0u; i < 4u; i++) {
                scores[thread_row * KEYS + offsets[i]] = score[i];
            }
            workgroupBarrier();
            var new_max = running_max;
            for (var i = 0u; i < tile_keys; i++) {
                new_max = max(new_max, scores[thread_row * KEYS + i]);
            }
            workgroupBarrier();
            for (var i = 0u; i < 4u; i++) {
                scores[thread_row * KEYS + offsets[i]] = select(0.0, exp_nonpositive(score[i] - new_max), visible[i]);
            }
            workgroupBarrier();
            let correction = exp_nonpositive(running_max - new_max);
            running_max = new_max;
            running_sum *= correction;
            for (var i = 0u; i < tile_keys; i++) {
                running_sum += scores[thread_row * KEYS + i];
            }
            for (var piece = 0u; piece < PIECES; piece++) {
                load_tile(run, n_keys, 1u, head, first_key, piece, lane);
                workgroupBarrier();
                var sum = acc[piece] * correction;
                for (var i = 0u; i < tile_keys; i++) {
                    sum += scores[thread_row * KEYS + i] * tile_kv[i * 8u + thread_column];
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
