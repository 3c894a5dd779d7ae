//! The user's sampling parameters and their valid ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The selection of the next token from the logits.
///
/// The steps run in the order of the fields below: penalties and bias, temperature,
/// top-k, top-p, min-p, draw. Each filter renormalises the probabilities that the
/// previous one left.
///
/// The history is the tokens that the caller passes to the sampler with each row of
/// logits. It normally contains every token of the session so far, including the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides a positive logit and multiplies a negative logit of each token that occurs
    /// in the history. Above 0; 1 is off. It is defined in Keskar et al., CTRL, section
    /// 4.1, and equals that of Hugging Face transformers.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once for each occurrence in the history. 0 is off;
    /// negative values favour repetition. It is OpenAI's formula. The prompt's tokens
    /// count too, as in llama.cpp.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each token that occurs in the history,
    /// regardless of the number of occurrences. 0 is off.
    pub presence_penalty: f32,
    /// The number of newest history tokens that the three penalties consider: `None` for
    /// all of them, `Some(0)` for none, which turns the penalties off.
    pub repeat_last_n: Option<usize>,
    /// Added to the logit of a token: finite, or -inf to ban the token.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Divides the logits. At least 0; 0 selects the largest logit (the lowest id if
    /// there is a tie) and skips the later steps.
    pub temperature: f32,
    /// Keeps the `top_k` most likely tokens; 0 is off.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probabilities sum to at least
    /// `top_p`. Above 0 and at most 1; 1 is off. Holtzman et al., 2019.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as likely as the most likely one. From 0 to 1;
    /// 0 is off. Nguyen et al., 2024.
    pub min_p: f32,
    /// Seeds the draws. `None` takes a random seed from the operating system.
    /// [`Sampler::seed`](super::Sampler::seed) returns it.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    /// Temperature 0.8, top-k 40, top-p 0.95 and a random seed. Everything else is off.
    fn default() -> Self {
        SamplingParams {
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: None,
            logit_bias: BTreeMap::new(),
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Returns parameters that select the most likely token each time: temperature 0 and
    /// everything else off.
    #[must_use]
    pub fn greedy() -> Self {
        SamplingParams { temperature: 0.0, top_k: 0, top_p: 1.0, ..SamplingParams::default() }
    }

    /// Returns whether the next token is always the largest of the model's own logits. An
    /// argmax on the GPU can then replace the sampler.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.temperature == 0.0 && !self.changes_logits()
    }

    /// Returns whether the GPU sampler supports every option in use. It supports neither
    /// penalties nor bias.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn gpu_sampler(&self) -> bool {
        !self.changes_logits()
    }

    /// Returns whether the history matters, because one of the three penalties is on.
    pub(super) fn penalises(&self) -> bool {
        self.repeat_last_n != Some(0)
            && (self.repetition_penalty != 1.0
                || self.frequency_penalty != 0.0
                || self.presence_penalty != 0.0)
    }

    /// Returns whether penalties or bias change any logit before the filters.
    pub(super) fn changes_logits(&self) -> bool {
        self.penalises() || !self.logit_bias.is_empty()
    }

    /// Checks that every parameter is in its valid range.
    ///
    /// # Errors
    /// [`Error::Input`] with the parameter's name, its value and the range, for
    /// the first one that is out of range.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        const FINITE: &str = "a finite number";
        let positive = |v: f32| v.is_finite() && v > 0.0;
        check("repetition_penalty", self.repetition_penalty, positive, "a finite number above 0 (1 is off)")?;
        check("frequency_penalty", self.frequency_penalty, f32::is_finite, FINITE)?;
        check("presence_penalty", self.presence_penalty, f32::is_finite, FINITE)?;
        for (&token, &bias) in &self.logit_bias {
            super::check::check_token("logit_bias", token, vocab_size)?;
            let name = format!("logit_bias of token {token}");
            check(
                &name,
                bias,
                |b| b.is_finite() || b == f32::NEG_INFINITY,
                "a finite number, or -inf for a ban",
            )?;
        }
        let at_least_0 = |v: f32| v.is_finite() && v >= 0.0;
        check("temperature", self.temperature, at_least_0, "a finite number, at least 0 (0 is greedy)")?;
        check("top_p", self.top_p, |p| p > 0.0 && p <= 1.0, "above 0 and at most 1 (1 is off)")?;
        check("min_p", self.min_p, |p| (0.0..=1.0).contains(&p), "from 0 to 1 (0 is off)")
    }
}

fn check(name: &str, value: f32, permitted: impl Fn(f32) -> bool, range: &str) -> Result<()> {
    if permitted(value) { Ok(()) } else { Err(Error::input(format!("{name} = {value}: expected {range}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_has_a_range() {
        type Set = fn(&mut SamplingParams, f32);
        let cases: [(&str, Set, &[f32], &[f32]); 7] = [
            ("temperature", |p, v| p.temperature = v, &[0.0, 1e-30, 5.0], &[-0.1, f32::NEG_INFINITY]),
            ("top_p", |p, v| p.top_p = v, &[1e-6, 1.0], &[0.0, -0.5, 1.001]),
            ("min_p", |p, v| p.min_p = v, &[0.0, 1.0], &[-0.001, 1.001]),
            ("repetition_penalty", |p, v| p.repetition_penalty = v, &[0.5, 1.0, 2.0], &[0.0, -1.0]),
            ("frequency_penalty", |p, v| p.frequency_penalty = v, &[-2.0, 2.0], &[f32::NEG_INFINITY]),
            ("presence_penalty", |p, v| p.presence_penalty = v, &[-2.0, 2.0], &[f32::NEG_INFINITY]),
            (
                "logit_bias of token 3",
                |p, v| p.logit_bias = [(3, v)].into(),
                &[-100.0, 0.0, f32::NEG_INFINITY],
                &[],
            ),
        ];
        for (name, set, good, bad) in cases {
            for &value in good {
                let mut params = SamplingParams::default();
                set(&mut params, value);
                params.validate(8).unwrap_or_else(|e| panic!("{name} {value}: {e}"));
            }
            for &value in bad.iter().chain(&[f32::NAN, f32::INFINITY]) {
                let mut params = SamplingParams::default();
                set(&mut params, value);
                let message = params.validate(8).unwrap_err().to_string();
                assert!(message.starts_with(&format!("{name} = {value}: expected ")), "{message}");
            }
        }
    }

    #[test]
    fn bias_ids_must_be_in_the_vocabulary() {
        let mut params = SamplingParams::greedy();
        params.logit_bias.insert(8, 1.0);
        assert!(params.validate(9).is_ok());
        let message = params.validate(8).unwrap_err().to_string();
        assert_eq!(message, "logit_bias: token 8 is not in the vocabulary of 8 tokens");
    }

    #[test]
    fn plain_greedy_needs_only_an_argmax() {
        assert!(SamplingParams::greedy().is_plain_greedy());
        assert!(SamplingParams { top_k: 5, min_p: 0.5, ..SamplingParams::greedy() }.is_plain_greedy());
        assert!(!SamplingParams::default().is_plain_greedy());
        assert!(SamplingParams { min_p: 0.5, ..SamplingParams::default() }.gpu_sampler());
        assert!(!SamplingParams { presence_penalty: 0.1, ..SamplingParams::default() }.gpu_sampler());
        let penalised = SamplingParams { repetition_penalty: 1.1, ..SamplingParams::greedy() };
        assert!(!penalised.is_plain_greedy());
        assert!(SamplingParams { repeat_last_n: Some(0), ..penalised }.is_plain_greedy());
        assert!(!SamplingParams { frequency_penalty: 0.1, ..SamplingParams::greedy() }.is_plain_greedy());
        assert!(!SamplingParams { presence_penalty: 0.1, ..SamplingParams::greedy() }.is_plain_greedy());
        assert!(
            !SamplingParams { logit_bias: [(0, 1.0)].into(), ..SamplingParams::greedy() }.is_plain_greedy()
        );
    }

    #[test]
    fn json_fills_in_defaults_and_rejects_misspelt_names() {
        let params: SamplingParams =
            serde_json::from_str(r#"{"top_k": 7, "logit_bias": {"5": -1.5}}"#).unwrap();
        let expected =
            SamplingParams { top_k: 7, logit_bias: [(5, -1.5)].into(), ..SamplingParams::default() };
        assert_eq!(params, expected);
        let json = serde_json::to_string(&params).unwrap();
        assert_eq!(serde_json::from_str::<SamplingParams>(&json).unwrap(), params);
        assert!(serde_json::from_str::<SamplingParams>(r#"{"temprature": 0.5}"#).is_err());
    }
}
