/// Returns `activation(gate) * up`, element by element.
#[must_use]
pub fn gated(gate: &[f32], up: &[f32], activation: impl Fn(f64) -> f64) -> Vec<f32> {
    gate.iter().zip(up).map(|(&gate, &up)| (activation(f64::from(gate)) * f64::from(up)) as f32).collect()
}
