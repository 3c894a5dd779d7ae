/// Returns whether `x` overflows f16: it is NaN, or its magnitude is at least 65520,
/// which is half a step beyond the largest f16 and rounds to infinity.
pub fn exceeds_f16(x: f32) -> bool {
    x.is_nan() || x.abs() >= 65_520.0
}

/// Writes the keys or values of `rows` into the cache of one head, starting at `position`.
///
/// `cache` is `[n_positions, head_dim]`, `rows` is `[n_rows, head_dim]`.
pub fn kv_append(cache: &mut [f32], rows: &[f32], position: usize, head_dim: usize) {
    cache[position * head_dim..][..rows.len()].copy_from_slice(rows);
}
