//! The parts of `tokenizer_config.json` and `chat_template.jinja` that a chat needs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::folder::Folder;
use super::json;
use crate::error::{Error, Result};

/// The files' names in a model directory.
const FILE: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";

/// Maximum size of a template in bytes. Published ones have up to 30 kB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The special tokens that templates refer to by name.
const SPECIAL: [&str; 8] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
];

/// A model's chat templates and special tokens; empty if the model has neither file.
///
/// The template in `chat_template.jinja` takes precedence over `tokenizer_config.json`'s,
/// as in transformers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerConfig {
    special_tokens: BTreeMap<String, SpecialToken>,
    templates: Vec<TemplateSource>,
}

/// The text of a special token, or of several tokens under one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SpecialToken {
    /// One token.
    One(String),
    /// `additional_special_tokens`.
    Several(Vec<String>),
}

/// A chat template before it is compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateSource {
    /// Its name if the model has several templates, or else `default`.
    pub name: String,
    /// The file that contains it.
    pub file: String,
    /// Its text.
    pub source: String,
}

impl TokenizerConfig {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be read; [`Error::Model`] if one is too long, is not a
    /// JSON object, or contains a token or template in another form.
    pub fn of(folder: &Folder) -> Result<Self> {
        let mut config = match folder.read_if_present(FILE, json::MAX_FILE_BYTES)? {
            Some(bytes) => Self::from_bytes(&folder.display(FILE), &bytes)?,
            None => Self::default(),
        };
        if let Some(bytes) = folder.read_if_present(TEMPLATE_FILE, TEMPLATE_BYTES_MAX)? {
            let file = folder.display(TEMPLATE_FILE);
            let source = utf8(&file, bytes)?;
            config.templates = vec![TemplateSource { name: DEFAULT.into(), file, source }];
        }
        Ok(config)
    }

    /// Parses the text of a `tokenizer_config.json`. Messages call it `file`.
    ///
    /// # Errors
    /// [`Error::Model`] as [`TokenizerConfig::of`].
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        const TOKEN: &str = "a string, an object with a string \"content\", or a list of these";
        let map = json::parse_object(file, bytes)?;
        let mut special_tokens = BTreeMap::new();
        for name in SPECIAL {
            match map.get(name) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let token = special_token(value).ok_or_else(|| wrong(file, name, value, TOKEN))?;
                    special_tokens.insert(name.to_owned(), token);
                }
            }
        }
        Ok(TokenizerConfig { special_tokens, templates: templates(file, &map)? })
    }

    /// Returns the special tokens by name, such as `bos_token`.
    #[must_use]
    pub fn special_tokens(&self) -> &BTreeMap<String, SpecialToken> {
        &self.special_tokens
    }

    /// Returns the text of the end-of-text token.
    #[must_use]
    pub fn eos_token(&self) -> Option<&str> {
        match self.special_tokens.get("eos_token")? {
            SpecialToken::One(text) => Some(text),
            SpecialToken::Several(_) => None,
        }
    }

    /// Returns all chat templates.
    #[must_use]
    pub fn templates(&self) -> &[TemplateSource] {
        &self.templates
    }

    /// Returns the chat template called `name`, or the default template if `name` is
    /// `None`.
    #[must_use]
    pub fn template(&self, name: Option<&str>) -> Option<&TemplateSource> {
        self.templates.iter().find(|template| template.name == name.unwrap_or(DEFAULT))
    }
}

/// The name of the default template.
const DEFAULT: &str = "default";

fn utf8(file: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::model(file, format!("byte {at} is not UTF-8 text: convert the file to UTF-8"))
    })
}

fn wrong(file: &str, field: &str, value: &Value, expected: &str) -> Error {
    Error::model(file, format!("{field} = {}: expected {expected}", json::shown(value)))
}

fn token_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Object(token) => token.get("content")?,
        text => text,
    };
    text.as_str().map(str::to_owned)
}

fn special_token(value: &Value) -> Option<SpecialToken> {
    match value {
        Value::Array(tokens) => {
            tokens.iter().map(token_text).collect::<Option<_>>().map(SpecialToken::Several)
        }
        token => token_text(token).map(SpecialToken::One),
    }
}

/// Returns one template, or several named templates from a list (the format of the files)
/// or from a map.
fn templates(file: &str, map: &Map<String, Value>) -> Result<Vec<TemplateSource>> {
    const FIELD: &str = "chat_template";
    const EXPECTED: &str = "a template as a string, or a list of {\"name\": ..., \"template\": ...}";
    let Some(value) = map.get(FIELD).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let named = |name: &str, source: &Value| {
        let source = source.as_str()?.to_owned();
        Some(TemplateSource { name: name.to_owned(), file: file.to_owned(), source })
    };
    let found: Option<Vec<_>> = match value {
        Value::Array(list) => {
            list.iter().map(|item| named(item.get("name")?.as_str()?, item.get("template")?)).collect()
        }
        Value::Object(map) => map.iter().map(|(name, source)| named(name, source)).collect(),
        text => named(DEFAULT, text).map(|template| vec![template]),
    };
    let found = found.ok_or_else(|| wrong(file, FIELD, value, EXPECTED))?;
    match found.iter().find(|template| template.source.len() as u64 > TEMPLATE_BYTES_MAX) {
        Some(template) => Err(Error::model(
            file,
            format!(
                "{FIELD} {}: has more than {TEMPLATE_BYTES_MAX} bytes, the maximum for a template",
                template.name
            ),
        )),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TokenizerConfig> {
        TokenizerConfig::from_bytes(FILE, text.as_bytes())
    }

    #[test]
    fn tokens_and_templates_have_several_forms() {
        let config = parse(
            r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
                "additional_special_tokens": ["<a>", {"content": "<b>"}], "model_max_length": 1e30,
                "chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#,
        )
        .unwrap();
        assert_eq!(config.eos_token(), Some("</s>"));
        assert_eq!(
            serde_json::to_string(config.special_tokens()).unwrap(),
            r#"{"additional_special_tokens":["<a>","<b>"],"bos_token":"<s>","eos_token":"</s>"}"#
        );
        assert_eq!(config.template(None).unwrap().source, "a");
        assert_eq!(config.template(Some("tool_use")).unwrap().source, "b");
        assert_eq!(config.template(Some("rag")), None);
        assert_eq!(
            parse(r#"{"chat_template": {"default": "c"}}"#).unwrap().template(None).unwrap().source,
            "c"
        );
        assert_eq!(parse(r#"{"chat_template": null}"#).unwrap(), TokenizerConfig::default());
    }

    #[test]
    fn fields_of_another_form_are_named() {
        let long = format!(r#"{{"chat_template": "{}"}}"#, "a".repeat(1 + (1 << 20)));
        for (text, expected) in [
            (r#"{"bos_token": 1}"#, "bos_token = 1: expected a string"),
            (r#"{"eos_token": {"text": "a"}}"#, "eos_token = {\"text\":\"a\"}: expected"),
            (r#"{"additional_special_tokens": [1]}"#, "additional_special_tokens = [1]: expected"),
            (r#"{"chat_template": 3}"#, "chat_template = 3: expected a template as a string"),
            (
                r#"{"chat_template": [{"name": "default"}]}"#,
                "chat_template = [{\"name\":\"default\"}]: expected",
            ),
            (&long, "chat_template default: has more than 1048576 bytes"),
            ("[]", "expected a JSON object"),
            ("{", "not valid JSON"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, Error::Model { .. }));
            let message = error.to_string();
            assert!(message.starts_with(&format!("{FILE}: {expected}")), "{message}");
        }
    }

    #[test]
    fn a_template_file_overrides_the_config() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::Dir(dir.path().to_owned());
        assert_eq!(TokenizerConfig::of(&folder).unwrap(), TokenizerConfig::default());
        std::fs::write(dir.path().join(FILE), r#"{"bos_token": "<s>", "chat_template": "config"}"#).unwrap();
        let of = || TokenizerConfig::of(&folder).map(|c| c.template(None).unwrap().source.clone());
        assert_eq!(of().unwrap(), "config");
        std::fs::write(dir.path().join(TEMPLATE_FILE), "own file").unwrap();
        assert_eq!(of().unwrap(), "own file");
        std::fs::write(dir.path().join(TEMPLATE_FILE), b"a\xff").unwrap();
        let message = of().unwrap_err().to_string();
        assert!(
            message.ends_with("chat_template.jinja: byte 1 is not UTF-8 text: convert the file to UTF-8")
        );
        std::fs::write(dir.path().join(TEMPLATE_FILE), vec![b'a'; 1 + (1 << 20)]).unwrap();
        assert!(of().unwrap_err().to_string().contains("has more than 1048576 bytes"));
    }
}
