// Rows at consecutive positions of one sequence: a chunk of a prompt.
fn row_position(row: u32) -> u32 {
    return step.position + row;
}

// Returns the index in the page table of one page of the row's sequence.
fn row_page(row: u32, page: u32) -> u32 {
    return page;
}

// Returns the last row, up to `last`, that belongs to the same sequence as `first`. The
// rows from `first` on are at consecutive positions.
fn row_run_end(first: u32, last: u32) -> u32 {
    return last;
}

