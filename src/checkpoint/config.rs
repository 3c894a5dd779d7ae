//! Typed access to `config.json`. The error of every accessor names the field, its value
//! and the accepted values.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use super::folder::Folder;
use super::json::{self, Expected};
use crate::error::{Error, Result};

/// The file's name in a model directory.
const FILE: &str = "config.json";

/// The fields of a model's `config.json`.
///
/// The accessors treat an absent field like `null`, because transformers writes `null`
/// for absent values. [`ConfigJson::contains`] distinguishes the two if absence has its
/// own meaning. For each number the caller gives the range that it can handle, so no
/// unchecked size from a file reaches an allocation. If a value has another type or is
/// out of range, the accessor returns [`Error::Config`] with the field and the value.
///
/// The reader records the accessed fields, so that a caller can find fields that it does
/// not honour ([`ConfigJson::unread`]).
#[derive(Clone, Debug)]
pub struct ConfigJson {
    fields: Map<String, Value>,
    /// The prefix of field names in messages: the path of the enclosing object.
    path: String,
    /// Names of the accessed fields, with their paths.
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl ConfigJson {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] if it is missing or cannot be read;
    /// [`Error::Model`] if it is not a JSON object, with line and column of a syntax
    /// error.
    pub fn of(folder: &Folder) -> Result<Self> {
        Self::from_bytes(&folder.display(FILE), &folder.read(FILE, json::MAX_FILE_BYTES)?)
    }

    /// Parses the text of a `config.json`. Messages call the file `name`.
    ///
    /// # Errors
    /// As [`ConfigJson::of`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        Ok(ConfigJson { fields: json::parse_object(name, bytes)?, path: String::new(), read: Arc::default() })
    }

    /// Returns the object in a field, if present. Its fields are named `field.inner`.
    ///
    /// # Errors
    /// [`Error::Config`] for anything other than an object.
    pub fn object(&self, field: &str) -> Result<Option<ConfigJson>> {
        let fields = self.optional(field, json::object)?;
        let inner = |fields: &Map<String, Value>| ConfigJson {
            fields: fields.clone(),
            path: format!("{}{field}.", self.path),
            read: self.read.clone(),
        };
        Ok(fields.map(inner))
    }

    /// Returns a field's unconverted value, if present.
    #[must_use]
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.note(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Returns whether the field is present, even if it is `null`.
    #[must_use]
    pub fn contains(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Returns an error about a field whose value the caller cannot use.
    #[must_use]
    pub fn fault(&self, field: &str, expected: impl Into<String>) -> Error {
        let found = self.fields.get(field).map_or_else(|| "(absent)".to_owned(), json::shown);
        fault(&format!("{}{field}", self.path), found, expected.into())
    }

    /// Returns the first field that was never accessed, with its value. It skips fields
    /// that are unset (`null`, `false`, or an empty string, list or object) and fields
    /// that `ignored` accepts. Objects that were accessed are searched too.
    #[must_use]
    pub fn unread(&self, ignored: &dyn Fn(&str) -> bool) -> Option<(String, String)> {
        let read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unread_in(&self.fields, &self.path, &read, ignored)
    }

    /// Records that a field was accessed.
    fn note(&self, field: &str) {
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        read.insert(format!("{}{field}", self.path));
    }

    /// Returns a whole number in `range`.
    ///
    /// # Errors
    /// [`Error::Config`], also if the field is absent.
    pub fn usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.required(field, |value| json::usize_in(value, &range))
    }

    /// Returns a whole number in `range`, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.optional(field, |value| json::usize_in(value, &range))
    }

    /// Returns a number that is in `range` after rounding to `f32`.
    ///
    /// # Errors
    /// [`Error::Config`], also if the field is absent.
    pub fn f32(&self, field: &str, range: RangeInclusive<f32>) -> Result<f32> {
        self.required(field, |value| json::f32_in(value, &range))
    }

    /// Returns a number that is in `range` after rounding to `f32`, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_f32(&self, field: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        self.optional(field, |value| json::f32_in(value, &range))
    }

    /// Returns a number in `range`.
    ///
    /// # Errors
    /// [`Error::Config`], also if the field is absent.
    pub fn f64(&self, field: &str, range: RangeInclusive<f64>) -> Result<f64> {
        self.required(field, |value| json::f64_in(value, &range))
    }

    /// Returns a number in `range`, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_f64(&self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        self.optional(field, |value| json::f64_in(value, &range))
    }

    /// Returns a boolean, if present.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn optional_bool(&self, field: &str) -> Result<Option<bool>> {
        self.optional(field, json::bool)
    }

    /// Returns a string.
    ///
    /// # Errors
    /// [`Error::Config`], also if the field is absent.
    pub fn str(&self, field: &str) -> Result<&str> {
        self.required(field, json::str)
    }

    /// Returns one token id or a list of them; an empty list if the field is absent.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn token_ids(&self, field: &str) -> Result<Vec<u32>> {
        Ok(self.optional(field, json::token_ids)?.unwrap_or_default())
    }

    /// Returns the value paired with the field's string in `allowed`, if the field is
    /// present.
    ///
    /// # Errors
    /// [`Error::Config`] for any other string, with a list of the allowed ones.
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
        self.note(field);
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).map_err(|expected| self.fault(field, expected)),
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
        // `null` is neither a number nor a string, so this error says what was expected.
        let expected = convert(&Value::Null).err();
        Err(self.fault(field, expected.unwrap_or_default()))
    }
}

fn unread_in(
    fields: &Map<String, Value>,
    path: &str,
    read: &BTreeSet<String>,
    ignored: &dyn Fn(&str) -> bool,
) -> Option<(String, String)> {
    fields.iter().find_map(|(name, value)| {
        let name = format!("{path}{name}");
        let known = read.contains(&name);
        match value {
            Value::Null | Value::Bool(false) => None,
            Value::String(text) if text.is_empty() => None,
            Value::Array(list) if list.is_empty() => None,
            Value::Object(inner) if known => unread_in(inner, &format!("{name}."), read, ignored),
            Value::Object(inner) if inner.is_empty() => None,
            _ if known || ignored(&name) => None,
            _ => Some((name, json::shown(value))),
        }
    })
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
        assert!(config.contains("n_inner") && !config.contains("no such"));
        assert_eq!(config.f32("eps", 0.0..=1.0).unwrap().to_bits(), 1e-5_f32.to_bits());
        assert_eq!(config.optional_f32("whole", 0.0..=2.0).unwrap(), Some(2.0));
        assert_eq!(config.optional_f32("n_inner", 0.0..=2.0).unwrap(), None);
        assert_eq!(config.optional_bool("tie").unwrap(), Some(true));
        assert_eq!(config.optional_bool("n_inner").unwrap(), None);
        assert_eq!(config.str("act").unwrap(), "gelu_new");
        assert_eq!(config.one_of("act", &[("relu", 1), ("gelu_new", 2)]).unwrap(), Some(2));
        assert_eq!(config.one_of("n_inner", &[("relu", 1)]).unwrap(), None);
    }

    #[test]
    fn errors_name_field_value_and_accepted_values() {
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
    fn unread_fields_are_found_in_objects_too() {
        let config = config(
            r#"{"a": 1, "off": false, "none": null, "empty": "", "rope": {"factor": 2, "mscale": 1}, "meta": 3}"#,
        );
        let ignored = |name: &str| name == "meta";
        assert_eq!(config.unread(&ignored), Some(("a".to_owned(), "1".to_owned())));
        config.usize("a", 1..=1).unwrap();
        let rope = config.unread(&ignored).unwrap();
        assert_eq!(rope, ("rope".to_owned(), r#"{"factor":2,"mscale":1}"#.to_owned()));
        let inner = config.object("rope").unwrap().unwrap();
        assert_eq!(inner.f64("factor", 1.0..=4.0).unwrap(), 2.0);
        assert_eq!(config.unread(&ignored), Some(("rope.mscale".to_owned(), "1".to_owned())));
        assert_eq!(
            text(inner.f64("factor", 3.0..=4.0)),
            "config.json: rope.factor = 2: expected a number from 3.0 to 4.0"
        );
        inner.optional_f64("mscale", 0.0..=1.0).unwrap();
        assert_eq!(config.unread(&ignored), None);
        assert!(config.object("a").is_err());
    }

    #[test]
    fn a_long_value_is_shortened_at_a_character_boundary() {
        let config = config(&format!(r#"{{"act": "{}"}}"#, "ä".repeat(500)));
        let text = text(config.optional_usize("act", 1..=2));
        assert!(text.contains("ää...: expected") && text.chars().count() < 160, "{text}");
    }
}
