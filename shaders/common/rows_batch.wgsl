// Rows of any sequences: a decode step, a packed pass. As many as `ROWS_MAX` in Rust.
struct Row {
    // Position in its sequence.
    position: u32,
    // Positions of its sequence in the KV cache, its own included.
    kv_len: u32,
    // Where its sequence's pages begin in the page table.
    first_page: u32,
    unused: u32,
}

struct Rows {
    rows: array<Row, 256>,
}

@group(0) @binding(13) var<uniform> batch: Rows;

fn row_position(row: u32) -> u32 {
    return batch.rows[row].position;
}

// Where the row's sequence has the entry of one of its pages in the page table.
fn row_page(row: u32, page: u32) -> u32 {
    return batch.rows[row].first_page + page;
}

// The last row of those from `first` to `last` that belong to the sequence of
// `first`, as neighbouring positions.
fn row_run_end(first: u32, last: u32) -> u32 {
    var end = first;
    while (end < last && batch.rows[end + 1u].first_page == batch.rows[first].first_page) {
        end++;
    }
    return end;
}

