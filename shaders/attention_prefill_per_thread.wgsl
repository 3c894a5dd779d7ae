// out[row, head, :] = sum over j <= position + row of softmax_j(scale * q[row, head] . k[j, head]) * v[j, head]
// (online softmax in f32: Milakov and Gimelshein 2018)
//
// One thread computes one row of one head, without workgroup memory: for CPU
// adapters. The lanes of a workgroup walk the same keys, so each key is loaded
// once for all of them. Keys come in blocks of KEYS that start at multiples of
// KEYS, so that a row's sums do not depend on the chunk it came in; blocks
// above the diagonal of the workgroup's last row are skipped. Ragged edge: rows
// beyond the last repeat it and are not stored; missing keys are masked.

const KEYS: u32 = 8u;
const PACKS: u32 = HEAD_DIM / 8u;

// [n_rows, 4 * out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.y;
    let first_row = group.x * WORKGROUP_SIZE;
    let row = min(first_row + lane, step.n_rows - 1u);
    let last_row = min(first_row + WORKGROUP_SIZE, step.n_rows) - 1u;
    let n_keys = step.position + last_row + 1u;
    let own_keys = step.position + row + 1u;
    let query = row * params.qkv_stride4 + head * (HEAD_DIM / 4u);

    var q: array<mat2x4<f32>, PACKS>;
    var acc: array<mat2x4<f32>, PACKS>;
    for (var pack = 0u; pack < PACKS; pack++) {
        q[pack] = mat2x4<f32>(qkv[query + 2u * pack], qkv[query + 2u * pack + 1u]) * params.scale;
        acc[pack] = mat2x4<f32>();
    }
    var running_max = MASKED;
    var running_sum = 0.0;

    for (var first_key = 0u; first_key < n_keys; first_key += KEYS) {
        // KEYS divides PAGE_SIZE: the block lies in one page.
        let entry = page_table[first_key / PAGE_SIZE];
        let slab = kv_slab(entry);
        let within = (first_key % PAGE_SIZE) * PACKS;
        let k = kv_run(entry, 0u, head, params.n_head) + within;
        let v = kv_run(entry, 1u, head, params.n_head) + within;
        let n_loaded = min(KEYS, n_keys - first_key);

        var weight: array<f32, KEYS>;
        var new_max = running_max;
        for (var i = 0u; i < KEYS; i++) {
            weight[i] = MASKED;
            if (i < n_loaded) {
                var sum = vec4<f32>(0.0);
                for (var pack = 0u; pack < PACKS; pack++) {
                    let value = kv_load(slab, k + i * PACKS + pack);
                    sum += value[0] * q[pack][0] + value[1] * q[pack][1];
                }
                weight[i] = select(MASKED, dot(sum, vec4<f32>(1.0)), first_key + i < own_keys);
            }
            new_max = max(new_max, weight[i]);
        }
        let correction = exp_nonpositive(running_max - new_max);
        running_max = new_max;
        running_sum *= correction;
        for (var i = 0u; i < KEYS; i++) {
            weight[i] = select(0.0, exp_nonpositive(weight[i] - new_max), first_key + i < own_keys);
            running_sum += weight[i];
        }
        for (var pack = 0u; pack < PACKS; pack++) {
            var sum = acc[pack] * correction;
            for (var i = 0u; i < n_loaded; i++) {
                sum += kv_load(slab, v + i * PACKS + pack) * weight[i];
            }
            acc[pack] = sum;
        }
    }

    if (first_row + lane >= step.n_rows) {
        return;
    }
    let to = row * params.out_stride4 + head * (HEAD_DIM / 4u);
    for (var pack = 0u; pack < PACKS; pack++) {
        out[to + 2u * pack] = acc[pack][0] / running_sum;
        out[to + 2u * pack + 1u] = acc[pack][1] / running_sum;
    }
}
