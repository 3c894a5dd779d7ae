// The output of the projection to q, k and v: rows of N_HEAD query heads, then N_KV_HEAD
// heads each of k and v. q is stored in `out`. k and v are rounded to the cache's type
// and stored at the row's position in the cache, as kv_append does.
// [pages of the sequences]
@group(0) @binding(7) var<storage, read> page_table: array<u32>;
// [pages of the slab, 2, N_KV_HEAD, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(9) var<storage, read_write> kv0: array<Pack4>;

fn store_output(row: u32, n4: u32, sum: vec4<f32>) {
    let column = params.out_offset4 + n4;
    let value = finished(row, column, sum);
    if (column < N_HEAD * (HEAD_DIM / 4u)) {
        out[row * params.out_stride4 + column] = value;
        return;
    }
    let kv_head = column / (HEAD_DIM / 4u) - N_HEAD;
    let part = kv_head / N_KV_HEAD;
    let position = row_position(row);
    note_overflow(part, params.tag, position, value);
    let entry = page_table[row_page(row, position / PAGE_SIZE)];
    let run = kv_run(entry, part, kv_head % N_KV_HEAD, N_KV_HEAD) + (position % PAGE_SIZE) * (HEAD_DIM / 8u);
    kv0[2u * run + column % (HEAD_DIM / 4u)] = pack4(value);
}

