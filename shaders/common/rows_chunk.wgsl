// Rows that are neighbouring positions of one sequence: a chunk of a prompt.
fn row_position(row: u32) -> u32 {
    return step.position + row;
}

// Where the row's sequence has the entry of one of its pages in the page table.
fn row_page(row: u32, page: u32) -> u32 {
    return page;
}

// The last row of those from `first` to `last` that belong to the sequence of
// `first`, as neighbouring positions.
fn row_run_end(first: u32, last: u32) -> u32 {
    return last;
}

