// Weights in blocks of 64 rows, eight neighbouring rows a thread; within a block
// first the four lower rows of all threads, then the four upper ones, each by pack,
// then by row of the thread, then by thread. The last block has the rows that are
// left. n and k8: rows and packs a row of the piece.

// Threads of a row's block.
fn block_threads(row: u32, n: u32) -> u32 {
    return min(8u, (n - row / 64u * 64u) / 8u);
}

// Where a row's first pack lies.
fn row_start(row: u32, n: u32, k8: u32) -> u32 {
    let upper = row % 8u / 4u * four_rows_step(row, n, k8);
    return row / 64u * 64u * k8 + upper + row % 4u * row_step(row, n, k8) + row % 64u / 8u;
}

// From one pack of a row to the next.
fn pack_step(row: u32, n: u32) -> u32 {
    return 4u * block_threads(row, n);
}

// From a row to the next, within four rows.
fn row_step(row: u32, n: u32, k8: u32) -> u32 {
    return block_threads(row, n);
}

// From four rows to the next four, within eight rows.
fn four_rows_step(row: u32, n: u32, k8: u32) -> u32 {
    return 4u * block_threads(row, n) * k8;
}

