/// Rotates pair i of adjacent elements of one head, `(x[2 i], x[2 i + 1])`. `cos_sin[i]`
/// holds the cosine and sine of the angle. Elements after the last of these pairs stay
/// unchanged.
#[must_use]
pub fn rotary(head: &[f32], cos_sin: &[[f32; 2]]) -> Vec<f32> {
    let mut out = head.to_vec();
    for (pair, cos_sin) in out.chunks_exact_mut(2).zip(cos_sin) {
        let [a, b] = [pair[0], pair[1]].map(f64::from);
        let [cos, sin] = cos_sin.map(f64::from);
        pair[0] = (a * cos - b * sin) as f32;
        pair[1] = (a * sin + b * cos) as f32;
    }
    out
}
