// out[row, :] = scale * wte[token_ids[row], :] [+ wpe[position of row, :]]
//
// One thread computes eight consecutive elements of one row. A row whose token is in
// another piece of wte is skipped, because that piece's dispatch writes it.
// Ragged edge: guarded; columns are padded to a multiple of 8.
//
// Fragments in common/: step, pack_f16 | pack_f32, weights_rows | weights_blocks,
// rows_chunk | rows_batch | none, positions_learned | positions_none.
struct EmbeddingParams {
    // Row length divided by 8.
    n_embd8: u32,
    // First row of this piece of wte, and its number of rows.
    first_token: u32,
    n_tokens: u32,
    // Rows of wpe.
    n_positions: u32,
    // Factor applied to wte.
    scale: f32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: EmbeddingParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows]
@group(0) @binding(2) var<storage, read> token_ids: array<u32>;
// [n_tokens, 8 * n_embd8]
@group(0) @binding(3) var<storage, read> wte: array<Pack>;
// [n_rows, 8 * n_embd8]
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn embedding(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    let row = index / params.n_embd8;
    let column = index % params.n_embd8;
    if (row >= step.n_rows) {
        return;
    }
    let token = token_ids[row] - params.first_token;
    // An id below the piece's first row wraps around and is also out of range.
    if (token >= params.n_tokens) {
        return;
    }
    let at = row_start(token, params.n_tokens, params.n_embd8) + column * pack_step(token, params.n_tokens);
    let sum = unpack8(wte[at]) * params.scale + position_embedding(row, column);
    out[index * 2u] = sum[0];
    out[index * 2u + 1u] = sum[1];
}
