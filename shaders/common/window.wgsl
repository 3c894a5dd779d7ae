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

