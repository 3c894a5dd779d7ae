// Weights in blocks of 64 rows, with eight consecutive rows per thread. Within a block,
// the four lower rows of all threads come first, then the four upper ones. Each half is
// ordered by pack, then by row of the thread, then by thread. The last block holds the
// remaining rows. n and k8 are the rows of the piece and the packs per row.

// Returns the number of threads that share a row's block.
fn block_threads(row: u32, n: u32) -> u32 {
    return min(8u, (n - row / 64u * 64u) / 8u);
}

// Returns the index of a row's first pack.
fn row_start(row: u32, n: u32, k8: u32) -> u32 {
    let upper = row % 8u / 4u * four_rows_step(row, n, k8);
    return row / 64u * 64u * k8 + upper + row % 4u * row_step(row, n, k8) + row % 64u / 8u;
}

// Returns the distance from one pack of a row to the next.
fn pack_step(row: u32, n: u32) -> u32 {
    return 4u * block_threads(row, n);
}

// Returns the distance from a row to the next, within four rows.
fn row_step(row: u32, n: u32, k8: u32) -> u32 {
    return block_threads(row, n);
}

// Returns the distance from four rows to the next four, within eight rows.
fn four_rows_step(row: u32, n: u32, k8: u32) -> u32 {
    return 4u * block_threads(row, n) * k8;
}

