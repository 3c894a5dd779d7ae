/// Returns element `element` (0 to 3) of thread `thread`: the sum of `chains` values.
/// Each value has its own initial value and is replaced `n` times by `a * factor +
/// offset`.
#[must_use]
pub fn probe_fma(thread: usize, element: usize, chains: usize, n: usize, factor: f32, offset: f32) -> f32 {
    let mut sum = 0.0;
    for chain in 0..chains {
        let mut a = (thread % 256) as f64 / 256.0 + element as f64 / 4.0 + chain as f64;
        for _ in 0..n {
            a = a * f64::from(factor) + f64::from(offset);
        }
        sum += a;
    }
    sum as f32
}
