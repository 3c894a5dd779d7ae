//! Chat templates: from messages to the text that a model was trained on.
//!
//! The language is Jinja2 as transformers sets it up (`_compile_jinja_template` of
//! `utils/chat_template_utils.py`, version 4.46): `trim_blocks` and `lstrip_blocks`, a
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

/// Work that one rendering may take, in minijinja's units: an instruction or 64 bytes
/// of data. Published templates take 38 to 75 a message of 100 bytes, and 4 for each
/// further 64. All of it is less than a second and at most 64 MB.
const FUEL: u64 = 1_000_000;

/// Stack of a rendering. With that much work a template can put values into values
/// 160 000 deep, and minijinja frees and prints such a value by calls within calls,
/// which take up to 640 bytes a level. What is not used is not taken from the system.
const STACK_BYTES: usize = 256 << 20;

/// Macros within macros. Published templates have two levels; what is deeper than this
/// calls itself.
const RECURSION_MAX: usize = 50;

/// A compiled chat template.
///
/// A clone shares the compilation. A template is code from a model's directory: what
/// it may do is bounded in time, memory and depth, and it reaches no file.
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
    /// Compiles a template; `name` stands for its file in messages. `special_tokens` are
    /// variables, such as `bos_token`: those of `tokenizer_config.json`, a text each or
    /// a list.
    ///
    /// # Errors
    /// [`Error::Model`] with file and line where it is no Jinja, or nests too deeply.
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

    /// A template that wgpt brings along; `None` for a name that is not among
    /// [`ChatTemplate::BUILT_IN`].
    #[must_use]
    pub fn built_in(name: &str) -> Option<&'static str> {
        built_in::TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    }

    /// Names of the templates that wgpt brings along: `chatml` for models that were
    /// trained on it, and `plain`, "User: ... Assistant: ...", for those that were
    /// trained on no template at all.
    pub const BUILT_IN: [&'static str; built_in::TEMPLATES.len()] = built_in::NAMES;

    /// The file, or the name of a template that wgpt brings along.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// The text of a conversation, to the byte what transformers renders.
    ///
    /// # Errors
    /// [`Error::Input`] for a conversation that the template refuses
    /// (`raise_exception`), such as one with a system message where the model knows
    /// none; [`Error::Model`] with file and line for a template that fails, or does not
    /// end.
    pub fn render(&self, input: &TemplateInput) -> Result<String> {
        let inner = &*self.inner;
        let variables = input.variables(&inner.special_tokens);
        on_a_deep_stack(&inner.name, || inner.environment.get_template(TEMPLATE)?.render(variables))
    }

    /// The token ids of a conversation.
    ///
    /// Special tokens that the template writes become their ids, and nothing is put in
    /// front: where a text begins with a token, the template has it. What looks like
    /// such a token within a message, such as an `<|im_end|>` that a user typed, is text
    /// and stays text. That is where this differs from transformers, which tokenizes the
    /// whole rendering and lets any message end its own turn.
    ///
    /// Protected in all messages are the tokenizer's special tokens; in all but the
    /// assistant's also added tokens that the template's own text has, since not every
    /// model marks those of its turns as special. What an assistant wrote may have such
    /// tokens, `</think>` for one.
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
                "{}: the template changes a message because of a special token in its text: leave the token out",
                self.inner.name
            )));
        }
        tokenizer.encode_marked(&rendered, mark)
    }

    /// The special token that the template writes behind an assistant's answer, such as
    /// `<|im_end|>`: where the model writes it, its turn ends. `None` where there is no
    /// such token.
    #[must_use]
    pub fn end_of_turn(&self, tokenizer: &Tokenizer) -> Option<u32> {
        const ANSWER: &str = "\u{fdd0}";
        let turn = |role, content| BTreeMap::from([("role", role), ("content", content)]);
        let text = self.render(&TemplateInput::new(&[turn("user", "a"), turn("assistant", ANSWER)])).ok()?;
        let (_, behind) = text.rsplit_once(ANSWER)?;
        let behind = behind.trim_start();
        let special = tokenizer.added_tokens().into_iter().filter(|token| token.special);
        let begins = special.filter(|token| !token.text.is_empty() && behind.starts_with(&token.text));
        begins.max_by_key(|token| token.text.len()).map(|token| token.id)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Runs what a template of any depth may do to minijinja; `name` is the template's.
fn on_a_deep_stack<T: Send>(
    name: &str,
    call: impl FnOnce() -> Result<T, minijinja::Error> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("wgpt template".into()).stack_size(STACK_BYTES);
        // An error may hold values of the template, and is freed there too.
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

/// The one template of an environment.
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
