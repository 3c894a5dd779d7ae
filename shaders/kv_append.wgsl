// cache[k or v, kv_head, position of row, :] = qkv[row, k or v, kv_head, :]
//
// One thread copies eight consecutive elements of one KV head of one row, rounded to the
// cache's type.
// Ragged edge: guarded. HEAD_DIM is a multiple of 8, padded with zeros.
//
// Fragments in common/: step, pack_f16 | pack_f32, rows_chunk | rows_batch, kv_layout,
// overflow_note | overflow_ignore, kv_write_1 | kv_write_4.
struct KvAppendParams {
    // Query heads.
    n_head: u32,
    // KV heads.
    n_kv_head: u32,
    // Length of a row of `qkv` divided by 4. A row holds q, [n_head, HEAD_DIM], then k
    // and v, each [n_kv_head, HEAD_DIM].
    qkv_stride4: u32,
    // Tag recorded with the position of an f16 overflow.
    tag: u32,
}

@group(0) @binding(0) var<uniform> params: KvAppendParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, 4 * qkv_stride4]
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
// [pages of the sequences]
@group(0) @binding(3) var<storage, read> page_table: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn kv_append(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    let packs = HEAD_DIM / 8u;
    let per_row = 2u * params.n_kv_head * packs;
    let row = index / per_row;
    if (row >= step.n_rows) {
        return;
    }
    let in_row = index % per_row;
    let part = in_row / (params.n_kv_head * packs);
    let kv_head = in_row / packs % params.n_kv_head;
    let pack = in_row % packs;

    let head = params.n_head + part * params.n_kv_head + kv_head;
    let source = row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + pack * 2u;
    let position = row_position(row);
    let entry = page_table[row_page(row, position / PAGE_SIZE)];
    let to = kv_run(entry, part, kv_head, params.n_kv_head) + (position % PAGE_SIZE) * packs + pack;
    let value = mat2x4<f32>(qkv[source], qkv[source + 1u]);
    note_overflow(part, params.tag, position, value[0]);
    note_overflow(part, params.tag, position, value[1]);
    kv_store(kv_slab(entry), to, value);
}
