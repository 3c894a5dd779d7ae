// Rows of any sequences: a decode step or a packed pass. The array has `ROWS_MAX` rows,
// as in Rust.
struct Row {
    // Position in its sequence.
    position: u32,
    // Positions of its sequence in the KV cache, including its own.
    kv_len: u32,
    // Index in the page table of its sequence's first page.
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

// Returns the index in the page table of one page of the row's sequence.
fn row_page(row: u32, page: u32) -> u32 {
    return batch.rows[row].first_page + page;
}

// Returns the last row, up to `last`, that belongs to the same sequence as `first`. The
// rows from `first` on are at consecutive positions.
fn row_run_end(first: u32, last: u32) -> u32 {
    var end = first;
    while (end < last && batch.rows[end + 1u].first_page == batch.rows[first].first_page) {
        end++;
    }
    return end;
}

