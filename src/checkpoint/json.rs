//! Helpers for the configuration files: a bounded JSON object, and conversions to Rust
//! types with a message that says what was expected.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Maximum size of a configuration file in bytes. Published ones are smaller than 100 kB;
/// the longest have long label lists.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 20;

/// Maximum length of a value shown in a message, in characters.
const SHOWN_CHARS: usize = 80;

/// What was expected instead of a value of the wrong kind, for messages.
pub(super) type Expected = String;

/// Parses `bytes` as a JSON object. Messages call the file `name`.
pub(super) fn parse_object(name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::model(name, format!("expected a JSON object, found {}", shown(&other)))),
        // serde_json's message ends with line and column.
        Err(error) => Err(Error::model(name, format!("not valid JSON: {error}"))),
    }
}

/// Returns the value as JSON, shortened for a message.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Converts a whole number in `range`.
pub(super) fn usize_in(value: &Value, range: &RangeInclusive<usize>) -> Result<usize, Expected> {
    let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
    number
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// Converts a number that is in `range` after rounding to `f32`.
pub(super) fn f32_in(value: &Value, range: &RangeInclusive<f32>) -> Result<f32, Expected> {
    let number = value.as_f64().map(|n| n as f32);
    number
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("expected a number from {:?} to {:?}", range.start(), range.end()))
}

/// Converts a number in `range`.
pub(super) fn f64_in(value: &Value, range: &RangeInclusive<f64>) -> Result<f64, Expected> {
    let number = value.as_f64().filter(|n| range.contains(n));
    number.ok_or_else(|| format!("expected a number from {:?} to {:?}", range.start(), range.end()))
}

/// Converts an object.
pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, Expected> {
    value.as_object().ok_or_else(|| "expected an object".to_owned())
}

/// Converts `true` or `false`.
pub(super) fn bool(value: &Value) -> Result<bool, Expected> {
    value.as_bool().ok_or_else(|| "expected true or false".to_owned())
}

/// Converts a string.
pub(super) fn str(value: &Value) -> Result<&str, Expected> {
    value.as_str().ok_or_else(|| "expected a string".to_owned())
}

/// Converts a token id.
pub(super) fn token_id(value: &Value) -> Result<u32, Expected> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| "expected a token id, a whole number".to_owned())
}

/// Converts one token id or a list of them.
pub(super) fn token_ids(value: &Value) -> Result<Vec<u32>, Expected> {
    let ids = match value {
        Value::Array(ids) => ids.iter().map(token_id).collect(),
        one => token_id(one).map(|id| vec![id]),
    };
    ids.map_err(|_| "expected a token id or a list of token ids, whole numbers".to_owned())
}
