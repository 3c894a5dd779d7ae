/// Returns the token whose share of the distribution, in order of id, contains `u` from
/// [0, 1). Temperature 0 selects the largest logit, the lowest id if there is a tie.
/// Returns `None` if `argmax` returns `None`.
///
/// The filters are those of `SamplingParams`. Each sees only the tokens that the previous
/// one kept. `top_k` 0, `top_p` 1 and `min_p` 0 are off.
#[must_use]
pub fn sample(
    logits: &[f32],
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    u: f64,
) -> Option<usize> {
    let best = super::argmax(logits)?;
    if temperature == 0.0 {
        return Some(best);
    }
    let weight =
        |&i: &usize| ((f64::from(logits[i]) - f64::from(logits[best])) / f64::from(temperature)).exp();
    let total = |ids: &[usize]| ids.iter().map(weight).sum::<f64>();
    let mut ids: Vec<usize> = (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY).collect();
    // The sort is stable, so equal logits stay in the order of their ids. Adding 0 makes
    // -0 and 0 equal.
    ids.sort_by(|&a, &b| (logits[b] + 0.0).total_cmp(&(logits[a] + 0.0)));
    if top_k > 0 {
        ids.truncate(top_k);
    }
    let enough = f64::from(top_p) * total(&ids);
    let mut mass = 0.0;
    if top_p < 1.0 {
        ids.retain(|i| {
            let below = mass < enough;
            mass += weight(i);
            below
        });
    }
    ids.retain(|i| weight(i) >= f64::from(min_p));
    ids.sort_unstable();
    let mut rest = u * total(&ids);
    let drawn = ids.iter().copied().find(|i| {
        rest -= weight(i);
        rest < 0.0
    });
    // Rounding may leave a remainder. It belongs to the last token.
    drawn.or(ids.last().copied())
}
