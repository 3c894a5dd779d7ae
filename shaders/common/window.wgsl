// The start of the positions that a window leaves visible. Earlier pages no longer belong
// to the sequence.

// Returns the first position that the last of `kv_len` positions sees.
fn first_seen(kv_len: u32, window: u32) -> u32 {
    return kv_len - min(kv_len, window);
}

// Returns the start of decode's splits, which is the start of the page with that
// position.
fn first_split_key(kv_len: u32, window: u32) -> u32 {
    return first_seen(kv_len, window) / PAGE_SIZE * PAGE_SIZE;
}

// Returns the length of each split except the last, in whole pages. The splits have equal
// sizes. There are as few as possible, with at most `most` positions each.
fn split_length(n_keys: u32, most: u32) -> u32 {
    let n_splits = (n_keys + most - 1u) / most;
    let length = (n_keys + n_splits - 1u) / n_splits;
    return (length + PAGE_SIZE - 1u) / PAGE_SIZE * PAGE_SIZE;
}

