/// Returns the index of the largest value, the lowest one if there is a tie; `None` if a
/// value is NaN or plus infinity, or if all are minus infinity.
#[must_use]
pub fn argmax(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
        return None;
    }
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    (logits[best] != f32::NEG_INFINITY).then_some(best)
}
