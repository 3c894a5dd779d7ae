//! `generation_config.json`: the model's defaults for text generation.

use serde_json::{Map, Value};

use super::folder::Folder;
use super::json::{self, Expected};
use crate::error::{Error, Result};

/// The file's name in a model directory.
const FILE: &str = "generation_config.json";

/// The values of a model's `generation_config.json`; `None` if the file has no value or
/// `null`. Fields that wgpt does not use are ignored, because transformers writes many.
/// Only the types are checked here; the sampler checks the ranges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Whether to draw from the distribution (true) or to select the best token (false).
    pub do_sample: Option<bool>,
    /// Divisor of the logits.
    pub temperature: Option<f32>,
    /// The number of most likely tokens to keep; 0 keeps all.
    pub top_k: Option<usize>,
    /// The probability mass of the most likely tokens to keep.
    pub top_p: Option<f32>,
    /// Minimum probability relative to that of the best token.
    pub min_p: Option<f32>,
    /// Divisor for the logits of tokens that have already occurred.
    pub repetition_penalty: Option<f32>,
    /// Maximum number of tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Maximum number of tokens of prompt and generated text together.
    pub max_length: Option<usize>,
    /// Ids that end a text; the file has one id or a list.
    pub eos_token_id: Option<Vec<u32>>,
    /// Id that starts a text.
    pub bos_token_id: Option<u32>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a folder. All values are `None` if the file does
    /// not exist.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Model`] if it is not a JSON
    /// object or a field has the wrong type.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn of(folder: &Folder) -> Result<Self> {
        match folder.read_if_present(FILE, json::MAX_FILE_BYTES)? {
            Some(bytes) => Self::from_bytes(&folder.display(FILE), &bytes),
            None => Ok(Self::default()),
        }
    }

    /// Parses the text of a `generation_config.json`. Messages call the file `name`.
    ///
    /// # Errors
    /// [`Error::Model`] if it is not a JSON object or a field has the wrong type.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        let fields = Fields { name, map: json::parse_object(name, bytes)? };
        let any_usize = |value: &Value| json::usize_in(value, &(0..=usize::MAX));
        let any_f32 = |value: &Value| json::f32_in(value, &(f32::MIN..=f32::MAX));
        Ok(GenerationConfig {
            do_sample: fields.get("do_sample", json::bool)?,
            temperature: fields.get("temperature", any_f32)?,
            top_k: fields.get("top_k", any_usize)?,
            top_p: fields.get("top_p", any_f32)?,
            min_p: fields.get("min_p", any_f32)?,
            repetition_penalty: fields.get("repetition_penalty", any_f32)?,
            max_new_tokens: fields.get("max_new_tokens", any_usize)?,
            max_length: fields.get("max_length", any_usize)?,
            eos_token_id: fields.get("eos_token_id", json::token_ids)?,
            bos_token_id: fields.get("bos_token_id", json::token_id)?,
        })
    }
}

struct Fields<'a> {
    name: &'a str,
    map: Map<String, Value>,
}

impl Fields<'_> {
    fn get<T>(&self, field: &str, convert: impl Fn(&Value) -> Result<T, Expected>) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).map_err(|expected| {
                Error::model(self.name, format!("{field} = {}: {expected}", json::shown(value)))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GenerationConfig> {
        GenerationConfig::from_bytes(FILE, text.as_bytes())
    }

    #[test]
    fn known_fields_are_read_and_others_ignored() {
        let found = parse(
            r#"{"_from_model_config": true, "do_sample": false, "temperature": 0.5, "top_k": 0, "top_p": 1,
                "min_p": 0.05, "repetition_penalty": 1.1, "max_new_tokens": 7, "max_length": 20,
                "eos_token_id": 50256, "bos_token_id": 3, "transformers_version": "4.0", "pad_token_id": -1}"#,
        );
        let expected = GenerationConfig {
            do_sample: Some(false),
            temperature: Some(0.5),
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.05),
            repetition_penalty: Some(1.1),
            max_new_tokens: Some(7),
            max_length: Some(20),
            eos_token_id: Some(vec![50256]),
            bos_token_id: Some(3),
        };
        assert_eq!(found.unwrap(), expected);
        assert_eq!(parse(r#"{"eos_token_id": [1, 2]}"#).unwrap().eos_token_id, Some(vec![1, 2]));
        assert_eq!(parse(r#"{"top_k": null, "eos_token_id": null}"#).unwrap(), GenerationConfig::default());
    }

    #[test]
    fn fields_of_the_wrong_type_are_named() {
        let fields = [
            ("do_sample", "1"),
            ("temperature", "\"hot\""),
            ("top_k", "-1"),
            ("top_p", "true"),
            ("min_p", "[]"),
            ("repetition_penalty", "1e300"),
            ("max_new_tokens", "1.5"),
            ("max_length", "{}"),
            ("eos_token_id", "[1,-2]"),
            ("eos_token_id", "4294967296"),
            ("bos_token_id", "\"<s>\""),
        ];
        for (field, value) in fields {
            let error = parse(&format!("{{\"{field}\": {value}}}")).unwrap_err();
            assert!(matches!(error, Error::Model { .. }));
            let text = error.to_string();
            let begin = format!("{FILE}: {field} = ");
            assert!(text.starts_with(&begin) && text.contains(": expected "), "{text}");
        }
    }

    #[test]
    fn an_absent_file_gives_defaults_but_a_damaged_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            GenerationConfig::of(&Folder::Dir(dir.path().to_owned())).unwrap(),
            GenerationConfig::default()
        );
        std::fs::write(dir.path().join(FILE), "{\n  \"top_k\": }").unwrap();
        let text = GenerationConfig::of(&Folder::Dir(dir.path().to_owned())).unwrap_err().to_string();
        assert!(text.contains(FILE) && text.contains("line 2 column 12"), "{text}");
    }
}
