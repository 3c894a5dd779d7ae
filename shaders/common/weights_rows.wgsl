// Weights row by row. n and k8: rows and packs a row of the piece.

// Where a row's first pack lies.
fn row_start(row: u32, n: u32, k8: u32) -> u32 {
    return row * k8;
}

// From one pack of a row to the next.
fn pack_step(row: u32, n: u32) -> u32 {
    return 1u;
}

// From a row to the next, within four rows.
fn row_step(row: u32, n: u32, k8: u32) -> u32 {
    return k8;
}

// From four rows to the next four, within eight rows.
fn four_rows_step(row: u32, n: u32, k8: u32) -> u32 {
    return 4u * k8;
}

