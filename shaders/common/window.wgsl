// Where the positions begin that a window leaves visible. Pages before them are not
// the sequence's any more.

// The first position that the last of `kv_len` positions sees.
fn first_seen(kv_len: u32, window: u32) -> u32 {
    return kv_len - min(kv_len, window);
}

// Where the splits of decode begin: with the page of that position.
fn first_split_key(kv_len: u32, window: u32) -> u32 {
    return first_seen(kv_len, window) / PAGE_SIZE * PAGE_SIZE;
}

// Whole pages of each split but the last: as few splits as hold `most` positions each,
// of equal sizes.
fn split_length(n_keys: u32, most: u32) -> u32 {
    let n_splits = (n_keys + most - 1u) / most;
    let length = (n_keys + n_splits - 1u) / n_splits;
    return (length + PAGE_SIZE - 1u) / PAGE_SIZE * PAGE_SIZE;
}

