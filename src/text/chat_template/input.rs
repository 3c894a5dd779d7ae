//! What a template is given.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use serde::Serialize;

/// What a template is given: the messages and further variables.
#[derive(Clone, Debug)]
pub struct TemplateInput {
    pub(super) messages: Value,
    pub(super) more: BTreeMap<String, Value>,
    pub(super) generation_prompt: bool,
}

impl TemplateInput {
    /// Messages, a list of maps with `role` and `content`, or whatever else the template
    /// reads. The order of a map's keys is kept.
    #[must_use]
    pub fn new<M: Serialize + ?Sized>(messages: &M) -> Self {
        // As transformers passes them where the caller has none.
        let absent = ["tools", "documents"].map(|name| (name.to_owned(), Value::from(())));
        TemplateInput {
            messages: Value::from(Serde(messages)),
            more: BTreeMap::from(absent),
            generation_prompt: false,
        }
    }

    /// With the beginning of an assistant's turn behind the messages.
    #[must_use]
    pub fn with_generation_prompt(mut self) -> Self {
        self.generation_prompt = true;
        self
    }

    /// With a further variable, such as `tools`, or `enable_thinking` of Qwen3. It hides
    /// a special token of that name.
    #[must_use]
    pub fn with_variable<V: Serialize + ?Sized>(mut self, name: impl Into<String>, value: &V) -> Self {
        self.more.insert(name.into(), Value::from(Serde(value)));
        self
    }

    /// All variables of a rendering.
    pub(super) fn variables(&self, special_tokens: &BTreeMap<String, Value>) -> Value {
        let mut all = special_tokens.clone();
        all.extend(self.more.clone());
        all.insert("messages".into(), self.messages.clone());
        all.insert("add_generation_prompt".into(), self.generation_prompt.into());
        Value::from_pairs(all)
    }
}
