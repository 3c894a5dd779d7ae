//! The sampling parameters: defaults, the model's values, flags.

use std::collections::BTreeMap;

use wgpt::{GenerationConfig, SamplingParams};

/// Flags for sampling. A flag overrides the value in the model's generation_config.json,
/// which overrides the default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    next_help_heading = "Sampling (in this order: penalties and bias, temperature, top-k, top-p, min-p)"
)]
pub struct SamplingArgs {
    /// Divide the logits by T; 0 always takes the most likely token [default: 0.8]
    #[arg(long = "temperature", alias = "temp", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep only the K most likely tokens; 0 is off [default: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep only the most likely tokens whose probabilities add up to P; 1 is off
    /// [default: 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keep only tokens that are at least P times as likely as the most likely one; 0 is
    /// off [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Lower the logits of tokens that have occurred: divide positive ones by X and
    /// multiply negative ones by X; 1 is off [default: 1]
    #[arg(long = "repetition-penalty", alias = "repeat-penalty", value_name = "X")]
    #[arg(allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Number of most recent tokens that the penalties consider; -1 for all [default: -1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(-1..))]
    repeat_last_n: Option<i64>,
    /// Subtract X from a token's logit once for each occurrence; 0 is off [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Subtract X once from the logit of a token that has occurred; 0 is off [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Add a bias to a token's logit, as in 262+1.5, 262-1.5 or 262=-inf (a ban); may be
    /// repeated
    #[arg(long, value_name = "ID(+|-|=)BIAS", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Seed of the sampler: the same seed, prompt and machine give the same text
    /// [default: random, shown in the summary]
    #[arg(short, long, value_name = "N")]
    seed: Option<u64>,
}

/// Parses `ID+BIAS`, `ID-BIAS` (llama.cpp's forms) or `ID=BIAS`.
fn logit_bias(s: &str) -> Result<(u32, f32), String> {
    let expected = || format!("{s:?}: expected ID+BIAS, ID-BIAS or ID=BIAS, for example 262-1.5 or 262=-inf");
    let at = s.find(['+', '-', '=']).ok_or_else(expected)?;
    let id = s[..at].trim().parse().map_err(|_| expected())?;
    // The sign belongs to the number; the equals sign does not.
    let bias = s[at..].strip_prefix('=').unwrap_or(&s[at..]);
    Ok((id, bias.trim().parse().map_err(|_| expected())?))
}

impl SamplingArgs {
    /// Returns the sampling parameters for a model.
    pub fn resolve(&self, model: &GenerationConfig) -> SamplingParams {
        let default = SamplingParams::default();
        // do_sample = false means the most likely token, at any temperature in the file.
        let model_temperature = if model.do_sample == Some(false) { Some(0.0) } else { model.temperature };
        SamplingParams {
            repetition_penalty: self
                .repetition_penalty
                .or(model.repetition_penalty)
                .unwrap_or(default.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            // -1 means all tokens and does not convert to usize.
            repeat_last_n: self.repeat_last_n.and_then(|n| usize::try_from(n).ok()),
            logit_bias: self.logit_bias.iter().copied().collect::<BTreeMap<_, _>>(),
            temperature: self.temperature.or(model_temperature).unwrap_or(default.temperature),
            top_k: self.top_k.or(model.top_k).unwrap_or(default.top_k),
            top_p: self.top_p.or(model.top_p).unwrap_or(default.top_p),
            min_p: self.min_p.or(model.min_p).unwrap_or(default.min_p),
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_model_values_which_override_defaults() {
        let model = GenerationConfig {
            temperature: Some(0.5),
            top_k: Some(7),
            repetition_penalty: Some(1.2),
            ..GenerationConfig::default()
        };
        let none = SamplingArgs::default();
        assert_eq!(none.resolve(&GenerationConfig::default()), SamplingParams::default());
        let from_model = none.resolve(&model);
        let expected = SamplingParams {
            temperature: 0.5,
            top_k: 7,
            repetition_penalty: 1.2,
            ..SamplingParams::default()
        };
        assert_eq!(from_model, expected);
        let flags = SamplingArgs { temperature: Some(0.0), top_p: Some(0.3), ..none };
        assert_eq!(flags.resolve(&model), SamplingParams { temperature: 0.0, top_p: 0.3, ..expected });
    }

    #[test]
    fn do_sample_false_means_greedy_unless_a_flag_overrides_it() {
        let model = GenerationConfig {
            do_sample: Some(false),
            temperature: Some(0.5),
            ..GenerationConfig::default()
        };
        assert_eq!(SamplingArgs::default().resolve(&model).temperature, 0.0);
        let flags = SamplingArgs { temperature: Some(0.7), ..SamplingArgs::default() };
        assert_eq!(flags.resolve(&model).temperature, 0.7);
    }

    #[test]
    fn biases_have_three_forms() {
        assert_eq!(logit_bias("262+1.5"), Ok((262, 1.5)));
        assert_eq!(logit_bias("262-1.5"), Ok((262, -1.5)));
        assert_eq!(logit_bias("262=-1.5"), Ok((262, -1.5)));
        assert_eq!(logit_bias("262=2"), Ok((262, 2.0)));
        assert_eq!(logit_bias("262=-inf"), Ok((262, f32::NEG_INFINITY)));
        assert_eq!(logit_bias("262-inf"), Ok((262, f32::NEG_INFINITY)));
        for bad in ["", "262", "262:1", "+1", "-1", "262=", "262+x", "x=1", "4294967296+1"] {
            assert!(logit_bias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_penalty_window_of_minus_one_is_unlimited() {
        let resolve = |n| {
            let args = SamplingArgs { repeat_last_n: n, ..SamplingArgs::default() };
            args.resolve(&GenerationConfig::default()).repeat_last_n
        };
        assert_eq!(
            [resolve(None), resolve(Some(-1)), resolve(Some(0)), resolve(Some(64))],
            [None, None, Some(0), Some(64)]
        );
    }
}
