//! `config.json` by typed access: every accessor says which field is wrong,
//! what it holds and what would be accepted.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use super::json::{self, Expected};
use crate::error::{Error, Result};

/// The fields of a model's `config.json`.
///
/// A field that is absent and one that is `null` are the same: transformers
/// writes `null` for a default. Numbers come with the range that the caller
/// can handle, so that no size from a file reaches an allocation unchecked.
/// Every accessor returns [`Error::Config`], naming field and value, for a
/// value of another type or out of range.
#[derive(Clone, Debug)]
pub struct ConfigJson {
    fields: Map<String, Value>,
}

impl ConfigJson {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Model`] with line and
    /// column when it is not JSON, or when it is no object.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_bytes(&path.display().to_string(), &json::read_file(path)?)
    }

    /// Parses the text of a `config.json`; `name` stands for the file in
    /// messages.
    ///
    /// # Errors
    /// As [`ConfigJson::from_file`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        Ok(ConfigJson { fields: json::parse_object(name, bytes)? })
    }

    /// A whole number in `range`.
    ///
    /// # Errors
    /// [`Error::Config`], also when the field is absent.
    pub fn usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.required(field, |value| json::usize_in(value, &range))
    }

    /// A whole number in `range`, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.optional(field, |value| json::usize_in(value, &range))
    }

    /// A number that, rounded to `f32`, lies in `range`.
    ///
    /// # Errors
    /// [`Error::Config`], also when the field is absent.
    pub fn f32(&self, field: &str, range: RangeInclusive<f32>) -> Result<f32> {
        self.required(field, |value| json::f32_in(value, &range))
    }

    /// A number that, rounded to `f32`, lies in `range`, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_f32(&self, field: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        self.optional(field, |value| json::f32_in(value, &range))
    }

    /// A truth value, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_bool(&self, field: &str) -> Result<Option<bool>> {
        self.optional(field, json::bool)
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::Config`], also when the field is absent.
    pub fn str(&self, field: &str) -> Result<&str> {
        self.required(field, json::str)
    }

    /// A string, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_str(&self, field: &str) -> Result<Option<&str>> {
        self.optional(field, json::str)
    }

    /// Token ids, one or a list of them; none where the field is absent.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn token_ids(&self, field: &str) -> Result<Vec<u32>> {
        Ok(self.optional(field, json::token_ids)?.unwrap_or_default())
    }

    /// What stands beside the field's string in `allowed`, if it is present.
    ///
    /// # Errors
    /// [`Error::Config`], which lists the allowed strings, for another one.
    pub fn one_of<T: Copy>(&self, field: &str, allowed: &[(&str, T)]) -> Result<Option<T>> {
        self.optional(field, |value| {
            let found = allowed.iter().find(|(name, _)| Some(*name) == value.as_str());
            found.map(|&(_, meaning)| meaning).ok_or_else(|| {
                let names: Vec<&str> = allowed.iter().map(|&(name, _)| name).collect();
                format!("expected one of {}", names.join(", "))
            })
        })
    }

    fn optional<'a, T>(
        &'a self,
        field: &str,
        convert: impl Fn(&'a Value) -> Result<T, Expected>,
    ) -> Result<Option<T>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                convert(value).map(Some).map_err(|expected| fault(field, json::shown(value), expected))
            }
        }
    }

    fn required<'a, T>(
        &'a self,
        field: &str,
        convert: impl Fn(&'a Value) -> Result<T, Expected>,
    ) -> Result<T> {
        if let Some(found) = self.optional(field, &convert)? {
            return Ok(found);
        }
        // `null` is no number and no string, so this is what was expected.
        let expected = convert(&Value::Null).err();
        Err(fault(field, "(absent)".to_owned(), expected.unwrap_or_default()))
    }
}

fn fault(field: &str, value: String, expected: Expected) -> Error {
    Error::Config { field: field.to_owned(), value, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ConfigJson {
        ConfigJson::from_bytes("config.json", text.as_bytes()).unwrap()
    }

    fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        error.to_string()
    }

    #[test]
    fn values_of_the_right_type_are_returned() {
        let config = config(
            r#"{"n_layer": 12, "n_inner": null, "eps": 1e-05, "whole": 2, "tie": true, "act": "gelu_new"}"#,
        );
        assert_eq!(config.usize("n_layer", 1..=12).unwrap(), 12);
        assert_eq!(config.optional_usize("n_layer", 12..=99).unwrap(), Some(12));
        assert_eq!(config.optional_usize("n_inner", 1..=9).unwrap(), None);
        assert_eq!(config.optional_usize("no such", 1..=9).unwrap(), None);
        assert_eq!(config.f32("eps", 0.0..=1.0).unwrap().to_bits(), 1e-5_f32.to_bits());
        assert_eq!(config.optional_f32("whole", 0.0..=2.0).unwrap(), Some(2.0));
        assert_eq!(config.optional_f32("n_inner", 0.0..=2.0).unwrap(), None);
        assert_eq!(config.optional_bool("tie").unwrap(), Some(true));
        assert_eq!(config.optional_bool("n_inner").unwrap(), None);
        assert_eq!(config.str("act").unwrap(), "gelu_new");
        assert_eq!(config.optional_str("n_inner").unwrap(), None);
        assert_eq!(config.one_of("act", &[("relu", 1), ("gelu_new", 2)]).unwrap(), Some(2));
        assert_eq!(config.one_of("n_inner", &[("relu", 1)]).unwrap(), None);
    }

    #[test]
    fn faults_name_field_value_and_what_is_accepted() {
        let config = config(
            r#"{"n_layer": 1000000000000, "n_head": -1, "n_embd": "64", "n": 12.0, "eps": "small", "tiny": 1e-20,
                "huge": 1e39, "tie": 1, "act": "swish", "list": [1]}"#,
        );
        assert_eq!(
            text(config.usize("n_layer", 1..=1024)),
            "config.json: n_layer = 1000000000000: expected a whole number from 1 to 1024"
        );
        let expected = "expected a whole number from 1 to 8";
        assert_eq!(text(config.usize("n_head", 1..=8)), format!("config.json: n_head = -1: {expected}"));
        assert_eq!(text(config.usize("n_embd", 1..=8)), format!("config.json: n_embd = \"64\": {expected}"));
        assert_eq!(text(config.optional_usize("n", 1..=8)), format!("config.json: n = 12.0: {expected}"));
        assert_eq!(
            text(config.usize("no such", 1..=8)),
            format!("config.json: no such = (absent): {expected}")
        );
        let expected = "expected a number from 1e-12 to 1.0";
        assert_eq!(text(config.f32("eps", 1e-12..=1.0)), format!("config.json: eps = \"small\": {expected}"));
        assert_eq!(text(config.f32("tiny", 1e-12..=1.0)), format!("config.json: tiny = 1e-20: {expected}"));
        assert!(config.f32("huge", f32::MIN..=f32::MAX).is_err(), "an f64 beyond f32 is infinite in f32");
        assert_eq!(
            text(config.f32("gone", 1e-12..=1.0)),
            format!("config.json: gone = (absent): {expected}")
        );
        assert_eq!(text(config.optional_bool("tie")), "config.json: tie = 1: expected true or false");
        assert_eq!(text(config.str("list")), "config.json: list = [1]: expected a string");
        assert_eq!(
            text(config.one_of("act", &[("relu", 1), ("gelu", 2)])),
            "config.json: act = \"swish\": expected one of relu, gelu"
        );
        assert_eq!(text(config.one_of("tie", &[("relu", 1)])), "config.json: tie = 1: expected one of relu");
    }

    #[test]
    fn a_long_value_is_shortened_on_a_character_border() {
        let config = config(&format!(r#"{{"act": "{}"}}"#, "ä".repeat(500)));
        let text = text(config.optional_usize("act", 1..=2));
        assert!(text.contains("ää...: expected") && text.chars().count() < 160, "{text}");
    }
}
