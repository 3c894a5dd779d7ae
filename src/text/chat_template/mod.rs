//! Chat templates. They turn messages into the text format that a model was trained on.
//!
//! A template is code from a model's directory. Its work is limited, and its thread's
//! stack is large enough for the deepest nesting that this much work can create. Tags
//! have a length limit, because the compile time of a tag grows with the square of its
//! length. One cost is not counted: minijinja does not count lists that double by `+`.
//!
//! Special tokens of the rendering become ids; text of a message never does. If a message
//! contains text like such a token, a second rendering marks that text with a
//! noncharacter. The mark is removed after the tokenizer's search for added tokens. Apart
//! from the marks, both renderings must be equal.
//!
//! The language is Jinja2 as transformers configures it (`_compile_jinja_template` in
//! `utils/chat_template_utils.py`, version 4.46): `trim_blocks` and `lstrip_blocks`,
//! `tojson` without HTML escapes, `raise_exception`, `strftime_now`, `break` and
//! `continue`, `{% generation %}`, and Python's methods of strings, lists and maps.

mod built_in;
mod input;
mod json;
mod marks;
mod python;
mod refusal;
mod syntax;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

pub use input::TemplateInput;

use super::Tokenizer;
use crate::error::{Error, Result};
use refusal::Refusal;

/// The maximum work of one rendering. minijinja's unit is one instruction or 64 bytes of
/// data. Published templates take 38 to 75 units for a message of 100 bytes, and 4 more
/// for each further 64 bytes. The full amount takes less than a second and at most 64 MB.
const FUEL: u64 = 1_000_000;

/// Stack size of a rendering in bytes. With the full amount of fuel, a template can nest
/// values 160 000 deep. minijinja frees and prints such a value recursively, with up to
/// 640 bytes of stack per level. The system commits memory only for the part of the stack
/// that is used.
const STACK_BYTES: usize = 256 << 20;

/// Maximum depth of nested macro calls. Published templates have two levels. Deeper
/// nesting means that a macro calls itself.
const RECURSION_MAX: usize = 50;

/// A compiled chat template.
///
/// Clones share the compiled template. A template is code from a model's directory. Its
/// time, memory and nesting depth are bounded, and it cannot access files.
#[derive(Clone)]
pub struct ChatTemplate {
    inner: Arc<Inner>,
}

struct Inner {
    /// The file, as the user would name it.
    name: String,
    source: String,
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template. Messages call its file `name`. `special_tokens` become
    /// variables, such as `bos_token`. They come from `tokenizer_config.json`, and each
    /// is a string or a list of strings.
    ///
    /// # Errors
    /// [`Error::Model`] with file and line if it is not valid Jinja or nests too deeply.
    pub fn new(
        name: impl Into<String>,
        source: &str,
        special_tokens: &BTreeMap<String, impl Serialize>,
    ) -> Result<Self> {
        let name = name.into();
        let special_tokens =
            special_tokens.iter().map(|(token, text)| (token.clone(), Value::from(Serde(text))));
        let environment = on_a_deep_stack(&name, || compile(source))?;
        let special_tokens = special_tokens.collect();
        Ok(ChatTemplate {
            inner: Arc::new(Inner { name, source: source.to_owned(), environment, special_tokens }),
        })
    }

    /// Returns the text of a built-in template; `None` for a name that is not in
    /// [`ChatTemplate::BUILT_IN`].
    #[must_use]
    pub fn built_in(name: &str) -> Option<&'static str> {
        built_in::TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    }

    /// The names of the built-in templates: `chatml` for models trained on it, and
    /// `plain`, "User: ... Assistant: ...", for models trained on no template at all.
    pub const BUILT_IN: [&'static str; built_in::TEMPLATES.len()] = built_in::NAMES;

    /// Returns the file name, or the name of a built-in template.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Returns the text of a conversation, byte for byte as transformers renders it.
    ///
    /// # Errors
    /// [`Error::Input`] for a conversation that the template refuses (`raise_exception`),
    /// such as one with a system message for a model without system messages;
    /// [`Error::Model`] with file and line for a template that fails or does not end.
    pub fn render(&self, input: &TemplateInput) -> Result<String> {
        let inner = &*self.inner;
        let variables = input.variables(&inner.special_tokens);
        on_a_deep_stack(&inner.name, || inner.environment.get_template(TEMPLATE)?.render(variables))
    }

    /// Returns the token ids of a conversation.
    ///
    /// Special tokens that the template writes become their ids. No other special tokens
    /// are added: if a text starts with one, the template writes it. If a string within a
    /// message looks like such a token, for example a typed `<|im_end|>`, it stays plain
    /// text. transformers differs here. It tokenizes the whole rendering, so any message
    /// can end its own turn.
    ///
    /// In all messages, the tokenizer's special tokens are protected. In all messages
    /// except the assistant's, the added tokens that occur in the template's own text are
    /// protected too, because some models do not mark their turn tokens as special. The
    /// assistant's messages may contain such tokens, for example `</think>`.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`]; [`Error::Input`] for a
    /// message with a special token in its text that the template would cut or change.
    pub fn encode(&self, tokenizer: &Tokenizer, input: &TemplateInput) -> Result<Vec<u32>> {
        let text = self.render(input)?;
        let Some((mark, marked)) = marks::marked(input, &text, &self.inner.source, tokenizer)? else {
            return tokenizer.encode(&text);
        };
        let rendered = self.render(&marked)?;
        if rendered.replace(mark, "") != text {
            return Err(Error::input(format!(
                "{}: the template changes a message because of a special token in its text: remove the token",
                self.inner.name
            )));
        }
        tokenizer.encode_marked(&rendered, mark)
    }

    /// Returns the special token that the template writes after an assistant's answer,
    /// such as `<|im_end|>`. The model ends its turn by generating it. `None` if there is
    /// no such token.
    #[must_use]
    pub fn end_of_turn(&self, tokenizer: &Tokenizer) -> Option<u32> {
        const ANSWER: &str = "\u{fdd0}";
        let turn = |role, content| BTreeMap::from([("role", role), ("content", content)]);
        let text = self.render(&TemplateInput::new(&[turn("user", "a"), turn("assistant", ANSWER)])).ok()?;
        let (_, after) = text.rsplit_once(ANSWER)?;
        let after = after.trim_start();
        let special = tokenizer.added_tokens().into_iter().filter(|token| token.special);
        let begins = special.filter(|token| !token.text.is_empty() && after.starts_with(&token.text));
        begins.max_by_key(|token| token.text.len()).map(|token| token.id)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Runs a call into minijinja on a stack that is large enough for any template. `name` is
/// the template's name.
fn on_a_deep_stack<T: Send>(
    name: &str,
    call: impl FnOnce() -> Result<T, minijinja::Error> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("wgpt template".into()).stack_size(STACK_BYTES);
        // Convert the error on this thread. It may hold deeply nested values, and
        // dropping them needs the large stack too.
        let call = || call().map_err(|error| refusal::explained(name, &error));
        let thread = thread.spawn_scoped(scope, call).map_err(|source| Error::Io {
            action: "start",
            path: "the thread of a chat template".into(),
            source,
        })?;
        match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::model(name, "the template library panics on this chat template")),
        }
    })
}

/// The name of the one template in an environment.
const TEMPLATE: &str = "chat_template";

fn compile(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_unknown_method_callback(python::method);
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("trim", python::trim);
    environment.add_function("raise_exception", |message: String| Err::<Value, _>(Refusal::error(message)));
    environment.add_function("strftime_now", python::strftime_now);
    environment.add_template_owned(TEMPLATE, syntax::without_generation_tags(source)?)?;
    Ok(environment)
}
