//! The input of a template.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use serde::Serialize;

/// The input of a template: messages and further variables.
#[derive(Clone, Debug)]
pub struct TemplateInput {
    pub(super) messages: Value,
    pub(super) more: BTreeMap<String, Value>,
    pub(super) generation_prompt: bool,
}

impl TemplateInput {
    /// Creates an input from messages: a list of maps with `role` and `content`, or any
    /// other value that the template reads. Map keys keep their order.
    #[must_use]
    pub fn new<M: Serialize + ?Sized>(messages: &M) -> Self {
        // transformers passes these as `None` if the caller gives none.
        let absent = ["tools", "documents"].map(|name| (name.to_owned(), Value::from(())));
        TemplateInput {
            messages: Value::from(Serde(messages)),
            more: BTreeMap::from(absent),
            generation_prompt: false,
        }
    }

    /// Adds the beginning of an assistant's turn after the messages.
    #[must_use]
    pub fn with_generation_prompt(mut self) -> Self {
        self.generation_prompt = true;
        self
    }

    /// Adds a variable, such as `tools`, or Qwen3's `enable_thinking`. It hides a special
    /// token of the same name.
    #[must_use]
    pub fn with_variable<V: Serialize + ?Sized>(mut self, name: impl Into<String>, value: &V) -> Self {
        self.more.insert(name.into(), Value::from(Serde(value)));
        self
    }

    /// Returns all variables of a rendering.
    pub(super) fn variables(&self, special_tokens: &BTreeMap<String, Value>) -> Value {
        let mut all = special_tokens.clone();
        all.extend(self.more.clone());
        all.insert("messages".into(), self.messages.clone());
        all.insert("add_generation_prompt".into(), self.generation_prompt.into());
        Value::from_pairs(all)
    }
}
