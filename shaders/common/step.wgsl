// What changes from step to step; copied into one buffer before each pass, so
// that recorded dispatches stay valid.
struct Step {
    // Rows of activations that this pass works on.
    n_rows: u32,
    // The first of them in the input (the head reads the last row of a chunk).
    first_row: u32,
    // Position in the sequence of row 0 of the chunk.
    position: u32,
    // Positions in the KV cache once this chunk is appended.
    kv_len: u32,
}

