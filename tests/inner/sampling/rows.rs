//! Random and adversarial rows of logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About normal, with standard deviation 3.
    Random,
    /// All equal.
    Flat,
    /// One of eight values, 0.75 apart: ties at every threshold.
    Ties,
    /// Random, with half of them minus infinity.
    Masked,
    /// All minus infinity except one.
    OneFinite,
    /// Magnitudes from 1e-38 to 3e38 with either sign.
    HugeSpread,
    /// Neighbouring floats around 1.
    TinyDifferences,
    /// A straight line upwards, 12 high: errors of weights add up over the ids.
    Rising,
    /// The same downwards.
    Falling,
    /// -0 and 0: equal.
    Zeros,
    /// One token ahead of all others, which are equal.
    Peak,
    /// Powers of two up to 2^96 with either sign, and 0: only the leading bit is set.
    Powers,
}

impl Kind {
    pub const ALL: [Kind; 12] = [
        Kind::Random,
        Kind::Flat,
        Kind::Ties,
        Kind::Masked,
        Kind::OneFinite,
        Kind::HugeSpread,
        Kind::TinyDifferences,
        Kind::Rising,
        Kind::Falling,
        Kind::Zeros,
        Kind::Peak,
        Kind::Powers,
    ];

    /// Returns `n` logits of this kind.
    pub fn row(self, n: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut uniform = || f64::from(rng.next_u32()) / 4_294_967_296.0;
        let mut normal = || ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32;
        let line = |i: usize| 12.0 * i as f32 / n as f32 - 5.0;
        let mut row: Vec<f32> = match self {
            Kind::Random | Kind::Masked => (0..n).map(|_| 3.0 * normal()).collect(),
            Kind::Flat => vec![-2.7; n],
            Kind::Ties => (0..n).map(|_| (normal().abs() * 3.0).min(7.0).floor() * 0.75 - 3.0).collect(),
            Kind::OneFinite => vec![f32::NEG_INFINITY; n],
            Kind::HugeSpread => {
                (0..n).map(|_| 10f32.powf(normal() * 13.0).min(3e38) * normal().signum()).collect()
            }
            Kind::TinyDifferences => (0..n).map(|_| 1.0 + (normal() * 1e3).floor() * f32::EPSILON).collect(),
            Kind::Rising => (0..n).map(line).collect(),
            Kind::Falling => (0..n).map(|i| line(n - i)).collect(),
            Kind::Zeros => (0..n).map(|_| 0.0f32.copysign(normal())).collect(),
            Kind::Peak => vec![-4.3; n],
            Kind::Powers => (0..n).map(|i| [2f32, -2.0, 0.0][i % 3].powi((i % 97) as i32)).collect(),
        };
        match self {
            Kind::Masked => {
                let kept = n / 3;
                row.iter_mut()
                    .enumerate()
                    .filter(|(i, _)| i % 2 == 1 && *i != kept)
                    .for_each(|(_, l)| *l = f32::NEG_INFINITY);
            }
            Kind::OneFinite => row[n - 1] = -1e30,
            Kind::Peak => row[n / 2] = 4.1,
            _ => {}
        }
        row
    }
}
