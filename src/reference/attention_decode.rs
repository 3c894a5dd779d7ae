use super::activation::soft_cap;

/// The parameters of attention, without queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_head: usize,
    /// KV heads: a divisor of `n_head`. Consecutive query heads share one.
    pub n_kv_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Scale of q·k.
    pub scale: f32,
    /// Scores become `soft_cap * tanh(score / soft_cap)`.
    pub soft_cap: Option<f32>,
    /// Number of positions that a row sees, including its own; `None` for all.
    pub window: Option<usize>,
}

impl Attention {
    /// Returns the score of a query at a key.
    #[must_use]
    pub fn score(&self, q: &[f32], k: &[f32]) -> f64 {
        let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let score = dot * f64::from(self.scale);
        self.soft_cap.map_or(score, |cap| soft_cap(score, f64::from(cap)))
    }

    /// Computes attention of one query head, `[head_dim]`, over the keys it sees,
    /// `[n_keys, head_dim]`.
    fn head(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let scores: Vec<f64> = k.chunks(self.head_dim).map(|k| self.score(q, k)).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let value = |d: usize| -> f64 {
            v.chunks(self.head_dim).zip(&weights).map(|(v, weight)| f64::from(v[d]) * weight).sum()
        };
        (0..self.head_dim).map(|d| (value(d) / sum) as f32).collect()
    }

    /// Computes attention of the row at `position`. q is `[n_head, head_dim]`; k and v
    /// are `[n_kv_head, n_positions, head_dim]`.
    pub(super) fn row(&self, q: &[f32], k: &[f32], v: &[f32], position: usize) -> Vec<f32> {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let per_kv_head = k.len() / self.n_kv_head;
        let group = self.n_head / self.n_kv_head;
        let heads = q.chunks(self.head_dim).enumerate();
        heads
            .flat_map(|(head, q)| {
                let run = head / group * per_kv_head;
                let seen = run + first * self.head_dim..run + (position + 1) * self.head_dim;
                self.head(q, &k[seen.clone()], &v[seen])
            })
            .collect()
    }
}

/// Computes attention of one row at the last of the given positions. The row sees the
/// positions that its window leaves visible.
///
/// `q` is `[n_head, head_dim]`, `k` and `v` are `[n_kv_head, n_keys, head_dim]`; returns
/// `[n_head, head_dim]`.
#[must_use]
pub fn attention_decode(attention: &Attention, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let n_keys = k.len() / (attention.n_kv_head * attention.head_dim);
    attention.row(q, k, v, n_keys - 1)
}
