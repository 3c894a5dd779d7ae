//! The conversation data of a model's files: chat templates and end-of-turn tokens.

use super::ModelFiles;
use crate::checkpoint::TokenizerConfig;
use crate::error::{Error, Result};
use crate::text::ChatTemplate;

impl ModelFiles {
    /// `tokenizer_config.json` and `chat_template.jinja`. The first call reads them; the
    /// result is empty if neither exists.
    ///
    /// # Errors
    /// As [`TokenizerConfig::of`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn tokenizer_config(&self) -> Result<&TokenizerConfig> {
        if let Some(config) = self.tokenizer_config.get() {
            return Ok(config);
        }
        let config = self.folder.as_ref().map(TokenizerConfig::of).transpose()?.unwrap_or_default();
        Ok(self.tokenizer_config.get_or_init(|| config))
    }

    /// The model's chat template. A name selects one of the model's templates. If the
    /// model has none of that name, it selects one of wgpt's own
    /// ([`ChatTemplate::BUILT_IN`]).
    ///
    /// # Errors
    /// [`Error::Input`] if the model has no template or no template has that name; the
    /// errors of [`ModelFiles::tokenizer_config`] and [`ChatTemplate::new`].
    pub fn chat_template(&self, name: Option<&str>) -> Result<ChatTemplate> {
        let config = self.tokenizer_config()?;
        if let Some(template) = config.template(name) {
            return self.compile_chat_template(&template.file, &template.source);
        }
        if let Some((name, source)) = name.and_then(|name| Some((name, ChatTemplate::built_in(name)?))) {
            return self.compile_chat_template(format!("the template {name}"), source);
        }
        let own = ChatTemplate::BUILT_IN.join(", ");
        let models: Vec<&str> = config.templates().iter().map(|template| template.name.as_str()).collect();
        Err(Error::input(match (name, models.as_slice()) {
            (None, []) => format!(
                "{}: the model has no chat template, neither in tokenizer_config.json nor in \
                 chat_template.jinja: use a model that was trained on conversations, give a template \
                 (ModelFiles::compile_chat_template), or name one of wgpt's own \
                 (ModelFiles::chat_template): {own}",
                self.name()
            ),
            (None, several) => format!(
                "{}: the model has several chat templates, but none is called default: choose one by its \
                 name (ModelFiles::chat_template), of {}",
                self.name(),
                several.join(", ")
            ),
            (Some(name), _) => format!(
                "{name}: no file and no chat template has that name: the model's are [{}], and wgpt's own \
                 are {own}",
                models.join(", ")
            ),
        }))
    }

    /// Compiles a template with the model's special tokens as variables. Error messages use
    /// `name` as the template's file name.
    ///
    /// # Errors
    /// As [`ModelFiles::tokenizer_config`] and [`ChatTemplate::new`].
    pub fn compile_chat_template(&self, name: impl Into<String>, source: &str) -> Result<ChatTemplate> {
        ChatTemplate::new(name, source, self.tokenizer_config()?.special_tokens())
    }

    /// Tokens that end an answer, in ascending order of id: the tokens that end any text
    /// ([`ModelFiles::eos_token_ids`]), the `eos_token` of `tokenizer_config.json`, and
    /// the special token that the template writes after an answer.
    ///
    /// # Errors
    /// As [`ModelFiles::tokenizer_config`] and [`ModelFiles::tokenizer`].
    pub fn end_of_turn_ids(&self, template: &ChatTemplate) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let eos = self.tokenizer_config()?.eos_token().and_then(|token| tokenizer.token_to_id(token));
        let mut ids = self.eos_token_ids().to_vec();
        ids.extend(eos.into_iter().chain(template.end_of_turn(tokenizer)));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
