//! Serialization of losses. JSON has no NaN or infinity, so these become strings with
//! Python's words for them.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Parses the words of Python and Rust for non-finite numbers.
pub(super) fn word(text: &str) -> Option<f64> {
    match text {
        "NaN" | "nan" => Some(f64::NAN),
        "Infinity" | "inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

pub(super) fn serialize<S: Serializer>(loss: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *loss {
        Some(loss) if loss.is_nan() => serializer.serialize_str("NaN"),
        Some(loss) if loss.is_infinite() => {
            serializer.serialize_str(if loss > 0.0 { "Infinity" } else { "-Infinity" })
        }
        loss => loss.serialize(serializer),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Loss::deserialize(deserializer)?.0)
}

/// A loss as read from a file; null means no loss.
pub(super) struct Loss(pub Option<f64>);

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LossVisitor)
    }
}

struct LossVisitor;

impl Visitor<'_> for LossVisitor {
    type Value = Loss;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a loss: a number, \"NaN\", \"Infinity\" or null")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Loss, E> {
        Ok(Loss(Some(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Loss, E> {
        Ok(Loss(Some(value as f64)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Loss, E> {
        Ok(Loss(Some(value as f64)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Loss, E> {
        Ok(Loss(None))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Loss, E> {
        match word(text) {
            Some(loss) => Ok(Loss(Some(loss))),
            None => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}
