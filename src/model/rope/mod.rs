//! Rotary position embedding (Su et al. 2021): frequencies with the scaling of a config,
//! and the table that kernels read.
//!
//! Angles are computed in f64. Partial rotation, scaling and YaRN's factor affect only
//! the table's numbers. No kernel computes a sine.

use std::f64::consts::{PI, TAU};

use serde::Serialize;

use crate::checkpoint::ConfigJson;
use crate::error::{Error, Result};

/// The file's order of the rotated elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// As on the GPU: element 2i is rotated with 2i + 1 (GPT-J), or nothing is rotated.
    AsIs,
    /// Element i is rotated with i + n_rot / 2 (GPT-NeoX, Llama). The loader makes such
    /// pairs neighbours. q·k does not depend on the order.
    Halves {
        /// Number of rotated elements of a head, which are the first ones.
        n_rot: usize,
    },
}

impl Pairing {
    /// Returns the file's element that is stored at `e` on the GPU.
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
    /// Number of rotated elements of a head, which are the first ones; even.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// The file's order of the rotated elements.
    pub pairing: Pairing,
    /// The scaling of the frequencies for long contexts.
    pub scaling: RopeScaling,
}

/// Scaling of the frequencies, by `rope_type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// Positions are divided by `factor` (Chen et al. 2023).
    Linear {
        /// Stretch of the context.
        factor: f64,
    },
    /// The base grows with the length beyond `original` (NTK-aware). Position p uses the
    /// frequencies of length p + 1, as if tokens came one at a time.
    Dynamic {
        /// Stretch of the context.
        factor: f64,
        /// Length up to which the frequencies stay unchanged.
        original: usize,
    },
    /// Llama 3.1: long wavelengths are stretched, short ones are not.
    Llama3 {
        /// Stretch of long wavelengths.
        factor: f64,
        /// Wavelengths above `original` / this are stretched.
        low_freq_factor: f64,
        /// Wavelengths below `original` / this are unchanged.
        high_freq_factor: f64,
        /// Context length of the first training.
        original: usize,
    },
    /// YaRN (Peng et al. 2023): as Llama 3.1, but by the number of turns. cos and sin are
    /// multiplied by `attention_factor`.
    Yarn {
        /// Stretch of the context.
        factor: f64,
        /// Context length of the first training.
        original: usize,
        /// Pairs with more turns within `original` are unchanged.
        beta_fast: f64,
        /// Pairs with fewer turns are stretched.
        beta_slow: f64,
        /// Factor on q and on k.
        attention_factor: f64,
        /// Whether the bounds are rounded to whole dimensions.
        truncate: bool,
    },
}

/// Longest context that a config may have, and thus the longest table.
const POSITIONS_MAX: usize = 1 << 20;

/// Default base (Su et al. 2021) of all architectures except Gemma 3.
pub(super) const THETA_DEFAULT: f64 = 10_000.0;

impl Rope {
    /// Reads the embedding of `n_rot` elements from `rope_theta` and `rope_scaling`, or
    /// from `rope_parameters`, which contains both in newer versions of transformers.
    /// `n_positions` is the config's context, and `theta` is the default base.
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
                return Err(json.fault("rope_scaling", "only one of this field and rope_parameters"));
            }
        };
        Rope { n_rot, theta, pairing: Pairing::Halves { n_rot }, scaling }.checked()
    }

    /// Returns the same embedding with another base and without scaling, for Gemma 3's
    /// local layers.
    pub(super) fn unscaled(&self, theta: f64) -> Self {
        Rope { theta, scaling: RopeScaling::Default, ..self.clone() }
    }

    /// Returns an embedding without scaling.
    ///
    /// # Errors
    /// [`Error::Config`] for an odd number of rotated elements.
    pub(super) fn plain(n_rot: usize, theta: f64, pairing: Pairing) -> Result<Self> {
        Rope { n_rot, theta, pairing, scaling: RopeScaling::Default }.checked()
    }

    fn checked(self) -> Result<Self> {
        let fault = |field: &str, value: String, expected: &str| {
            Err(Error::Config { field: field.into(), value, expected: expected.into() })
        };
        let n_rot = self.n_rot.to_string();
        match self.scaling {
            _ if !self.n_rot.is_multiple_of(2) => {
                fault("head_dim", n_rot, "an even number of rotated elements of a head")
            }
            // The exponent of this scaling is n_rot / (n_rot - 2).
            RopeScaling::Dynamic { .. } if self.n_rot == 2 => {
                fault("head_dim", n_rot, "more than 2 rotated elements of a head with dynamic scaling")
            }
            // This scaling divides by the logarithm of the base.
            RopeScaling::Yarn { .. } if self.theta <= 1.0 => {
                fault("rope_theta", self.theta.to_string(), "a base above 1 with YaRN scaling")
            }
            _ => Ok(self),
        }
    }

    /// Returns the context length after scaling of the config's context length.
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

    /// Returns the angle per position of pair `i`, for a sequence of `len` positions.
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
                // Number of waves within the first context.
                let waves = original as f64 * frequency / TAU;
                let smooth =
                    ((waves - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                frequency * ((1.0 - smooth) / factor + smooth)
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
                // The dimension that makes `turns` turns within the first context.
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

    /// Returns the kernels' table: `[n_ctx, head_dim / 4]` entries of (cos, sin) of two
    /// pairs. Entries after the rotated elements are the identity. Angles are computed in
    /// f64. `head_dim` includes padding.
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

/// Bases that a config may have.
const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e12;
const FACTOR: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// The kinds of scaling that a config may have.
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
    /// Reads the scaling from the object `rope_scaling` or `rope_parameters`.
    fn from_json(json: &ConfigJson, n_positions: usize) -> Result<Self> {
        // Older configs call this field `type`. Some configs have both.
        let old = json.one_of("type", KINDS)?;
        let kind = json.one_of("rope_type", KINDS)?.or(old).unwrap_or(Kind::Default);
        // rope_parameters also contains rope_theta. This call marks it as read.
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

    /// Returns the text for reports; empty without scaling.
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
