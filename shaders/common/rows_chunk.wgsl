// Rows that are neighbouring positions of one sequence: a chunk of a prompt.
fn row_position(row: u32) -> u32 {
    return step.position + row;
}

// Where the row's sequence has the entry of one of its pages in the page table.
fn row_page(row: u32, page: u32) -> u32 {
    return page;
}

