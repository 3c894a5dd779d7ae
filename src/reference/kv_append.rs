/// Whether f16 has no finite number next to `x`: 65520, half a step beyond the largest,
/// rounds to infinity.
pub fn exceeds_f16(x: f32) -> bool {
    x.is_nan() || x.abs() >= 65_520.0
}

/// Writes the keys or values of `rows` behind `position` into one head's cache.
///
/// `cache` is `[n_positions, head_dim]`, `rows` is `[n_rows, head_dim]`.
pub fn kv_append(cache: &mut [f32], rows: &[f32], position: usize, head_dim: usize) {
    cache[position * head_dim..][..rows.len()].copy_from_slice(rows);
}
