//! Rotary position embedding (Su et al. 2021): frequencies by the scaling of a config,
//! and the table that the kernels read.

use std::f64::consts::{PI, TAU};

use serde::Serialize;

use crate::checkpoint::ConfigJson;
use crate::error::{Error, Result};

/// How a file orders the rotated elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// As on the GPU: element 2i is rotated with 2i + 1 (GPT-J), or nothing is.
    AsIs,
    /// Element i is rotated with i + n_rot / 2 (GPT-NeoX, Llama); the loader brings
    /// them together. q·k does not depend on the order.
    Halves {
        /// Elements of a head that are rotated, the first ones.
        n_rot: usize,
    },
}

impl Pairing {
    /// The element in the file that stands at `e` on the GPU.
    pub(super) const fn file_element(self, e: usize) -> usize {
        match self {
            Pairing::Halves { n_rot } if e < n_rot => e / 2 + e % 2 * (n_rot / 2),
            _ => e,
        }
    }
}

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Elements of a head that are rotated, the first ones; even.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the file orders them.
    pub pairing: Pairing,
    /// How frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// Scaling of the frequencies, by `rope_type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// None.
    Default,
    /// Positions are divided by `factor` (Chen et al. 2023).
    Linear {
        /// Stretch of the context.
        factor: f64,
    },
    /// The base grows with the length beyond `original` (NTK-aware): position p has
    /// the frequencies of length p + 1, as when tokens come one by one.
    Dynamic {
        /// Stretch of the context.
        factor: f64,
        /// Length up to which nothing is changed.
        original: usize,
    },
    /// Llama 3.1: long waves are stretched, short ones are not.
    Llama3 {
        /// Stretch of the long waves.
        factor: f64,
        /// Waves longer than `original` / this are stretched.
        low_freq_factor: f64,
        /// Waves shorter than `original` / this are left alone.
        high_freq_factor: f64,
        /// Length of the first training.
        original: usize,
    },
    /// YaRN (Peng et al. 2023): as Llama 3's by number of turns, and cos and sin are
    /// multiplied by `attention_factor`.
    Yarn {
        /// Stretch of the context.
        factor: f64,
        /// Length of the first training.
        original: usize,
        /// Turns within `original` above which nothing is changed.
        beta_fast: f64,
        /// Turns below which waves are stretched.
        beta_slow: f64,
        /// Factor of q and k each.
        attention_factor: f64,
        /// Whether the bounds are rounded to whole dimensions.
        truncate: bool,
    },
}

/// Longest context that a config may name, and so the largest length of a table.
const POSITIONS_MAX: usize = 1 << 20;

/// Base where a config names none, but for one architecture's (Su et al. 2021).
pub(super) const THETA_DEFAULT: f64 = 10_000.0;

impl Rope {
    /// The embedding of `n_rot` elements that a config describes by `rope_theta` and
    /// `rope_scaling`, or by `rope_parameters` where newer versions of transformers
    /// put both. `n_positions` is the config's context, `theta` the base where it has none.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown `rope_type` or a field out of range.
    pub(super) fn from_json(json: &ConfigJson, n_rot: usize, n_positions: usize, theta: f64) -> Result<Self> {
        let parameters = json.object("rope_parameters")?;
        let found = match &parameters {
            Some(inner) => inner.optional_f64("rope_theta", THETA)?,
            None => json.optional_f64("rope_theta", THETA)?,
        };
        let theta = found.unwrap_or(theta);
        let scaling = match (&parameters, json.object("rope_scaling")?) {
            (Some(inner), None) => RopeScaling::from_json(inner, n_positions)?,
            (None, Some(inner)) => RopeScaling::from_json(&inner, n_positions)?,
            (None, None) => RopeScaling::Default,
            (Some(_), Some(_)) => {
                return Err(json.fault("rope_scaling", "either this field or rope_parameters"));
            }
        };
        Rope { n_rot, theta, pairing: Pairing::Halves { n_rot }, scaling }.checked()
    }

    /// The same with another base and without scaling: Gemma 3's local layers.
    pub(super) fn unscaled(&self, theta: f64) -> Self {
        Rope { theta, scaling: RopeScaling::Default, ..self.clone() }
    }

    /// One without scaling.
    ///
    /// # Errors
    /// [`Error::Config`] for an odd number of rotated elements.
    pub(super) fn plain(n_rot: usize, theta: f64, pairing: Pairing) -> Result<Self> {
        Rope { n_rot, theta, pairing, scaling: RopeScaling::Default }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.n_rot.is_multiple_of(2) {
            return Ok(self);
        }
        Err(Error::Config {
            field: "head_dim".into(),
            value: self.n_rot.to_string(),
            expected: "an even number of rotated elements of a head".into(),
        })
    }

    /// The context that scaling leads to, given that of the config.
    #[must_use]
    pub fn n_positions(&self, n_positions: usize) -> usize {
        let stretched = |factor: f64, original: usize| (original as f64 * factor) as usize;
        match self.scaling {
            RopeScaling::Dynamic { factor, original } | RopeScaling::Yarn { factor, original, .. } => {
                stretched(factor, original).max(n_positions).min(POSITIONS_MAX)
            }
            _ => n_positions,
        }
    }

    /// Angle a position of pair `i`, when the sequence has `len` positions.
    fn frequency(&self, i: usize, len: usize) -> f64 {
        let dim = self.n_rot as f64;
        let plain = |theta: f64| theta.powf(-2.0 * i as f64 / dim);
        let frequency = plain(self.theta);
        match self.scaling {
            RopeScaling::Default => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Dynamic { factor, original } => {
                let stretch = factor * len.max(original) as f64 / original as f64 - (factor - 1.0);
                plain(self.theta * stretch.powf(dim / (dim - 2.0)))
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                // Waves within the first context.
                let waves = original as f64 * frequency / TAU;
                let smooth =
                    ((waves - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                frequency * ((1.0 - smooth) / factor + smooth)
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
                // The dimension that turns so often within the first context.
                let dimension =
                    |turns: f64| dim * (original as f64 / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dim - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                let stretched = ((i as f64 - low) / width).clamp(0.0, 1.0);
                frequency * (stretched / factor + 1.0 - stretched)
            }
        }
    }

    /// The kernels' table, `[n_ctx, head_dim / 4]` of (cos, sin) of two pairs each;
    /// the identity behind the rotated elements. Angles are computed in f64. `head_dim`
    /// is the padded one.
    #[must_use]
    pub fn table(&self, n_ctx: usize, head_dim: usize) -> Vec<f32> {
        let factor = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        };
        let fixed: Vec<f64> = (0..self.n_rot / 2).map(|i| self.frequency(i, 1)).collect();
        let grows = |position: usize| match self.scaling {
            RopeScaling::Dynamic { original, .. } => position >= original,
            _ => false,
        };
        let mut table = Vec::with_capacity(n_ctx * head_dim);
        for position in 0..n_ctx {
            for i in 0..head_dim / 2 {
                let Some(fixed) = fixed.get(i) else {
                    table.extend([1.0, 0.0]);
                    continue;
                };
                let frequency = if grows(position) { self.frequency(i, position + 1) } else { *fixed };
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                table.extend([(factor * cos) as f32, (factor * sin) as f32]);
            }
        }
        table
    }
}

/// Bases that a config may name.
const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e12;
const FACTOR: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// The names of the scalings.
#[derive(Clone, Copy)]
enum Kind {
    Default,
    Linear,
    Dynamic,
    Llama3,
    Yarn,
}

const KINDS: &[(&str, Kind)] = &[
    ("default", Kind::Default),
    ("linear", Kind::Linear),
    ("dynamic", Kind::Dynamic),
    ("llama3", Kind::Llama3),
    ("yarn", Kind::Yarn),
];

impl RopeScaling {
    /// Reads the object `rope_scaling`.
    fn from_json(json: &ConfigJson, n_positions: usize) -> Result<Self> {
        // Older configs call it type; some have both.
        let old = json.one_of("type", KINDS)?;
        let kind = json.one_of("rope_type", KINDS)?.or(old).unwrap_or(Kind::Default);
        // It stands here as well where the object is rope_parameters.
        json.optional_f64("rope_theta", THETA)?;
        let factor = || json.f64("factor", FACTOR);
        let original = || {
            Ok(json
                .optional_usize("original_max_position_embeddings", 1..=POSITIONS_MAX)?
                .unwrap_or(n_positions))
        };
        let scaling = match kind {
            Kind::Default => RopeScaling::Default,
            Kind::Linear => RopeScaling::Linear { factor: factor()? },
            Kind::Dynamic => RopeScaling::Dynamic { factor: factor()?, original: original()? },
            Kind::Llama3 => RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: json.f64("low_freq_factor", 1e-6..=1e6)?,
                high_freq_factor: json.f64("high_freq_factor", 1e-6..=1e6)?,
                original: json.usize("original_max_position_embeddings", 1..=POSITIONS_MAX)?,
            },
            Kind::Yarn => {
                let factor = factor()?;
                let attention_factor = json.optional_f64("attention_factor", 1e-6..=1e6)?;
                RopeScaling::Yarn {
                    factor,
                    original: original()?,
                    beta_fast: json.optional_f64("beta_fast", 1e-6..=1e6)?.unwrap_or(32.0),
                    beta_slow: json.optional_f64("beta_slow", 1e-6..=1e6)?.unwrap_or(1.0),
                    attention_factor: attention_factor.unwrap_or(0.1 * factor.ln() + 1.0),
                    truncate: json.optional_bool("truncate")?.unwrap_or(true),
                }
            }
        };
        match scaling {
            RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. }
                if low_freq_factor >= high_freq_factor =>
            {
                Err(json.fault("high_freq_factor", "more than low_freq_factor"))
            }
            _ => Ok(scaling),
        }
    }

    /// What reports print.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            RopeScaling::Default => String::new(),
            RopeScaling::Linear { factor } => format!(", linear scaling {factor}"),
            RopeScaling::Dynamic { factor, original } => {
                format!(", dynamic scaling {factor} beyond {original}")
            }
            RopeScaling::Llama3 { factor, original, .. } => {
                format!(", llama3 scaling {factor} of {original}")
            }
            RopeScaling::Yarn { factor, original, .. } => format!(", YaRN scaling {factor} of {original}"),
        }
    }
}

#[cfg(test)]
mod tests;
