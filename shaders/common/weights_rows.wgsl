// Weights row by row. n and k8 are the rows of the piece and the packs per row.

// Returns the index of a row's first pack.
fn row_start(row: u32, n: u32, k8: u32) -> u32 {
    return row * k8;
}

// Returns the distance from one pack of a row to the next.
fn pack_step(row: u32, n: u32) -> u32 {
    return 1u;
}

// Returns the distance from a row to the next, within four rows.
fn row_step(row: u32, n: u32, k8: u32) -> u32 {
    return k8;
}

// Returns the distance from four rows to the next four, within eight rows.
fn four_rows_step(row: u32, n: u32, k8: u32) -> u32 {
    return 4u * k8;
}

