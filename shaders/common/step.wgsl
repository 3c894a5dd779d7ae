// Values that change from step to step. They are copied into one buffer before each pass,
// so recorded dispatches stay valid.
struct Step {
    // Rows of activations in this pass.
    n_rows: u32,
    // Index of the first of these rows in the input (the LM head reads only the last row
    // of a chunk).
    first_row: u32,
    // Position of the chunk's row 0 in the sequence.
    position: u32,
    // Positions in the KV cache after this chunk is appended.
    kv_len: u32,
}

