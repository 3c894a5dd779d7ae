//! Carries out the user's actions.

use std::time::Instant;

use eframe::egui;
use serde_json::json;

use super::App;
use crate::draft::Effect;
use crate::editor::Action;
use crate::generate::Prompt;
use crate::worker::{Request, Source};

impl App<'_> {
    pub(super) fn apply_settings(&mut self, context: &egui::Context) {
        let settings = &self.session.state.settings;
        context.set_theme(egui::ThemePreference::from(settings.theme));
        self.worker.pace.set(settings.budgeted.then_some(settings.budget_ms));
        self.changed = Instant::now();
        self.session.log.write("settings", json!(settings));
    }

    pub(super) fn load(&mut self, source: Source) {
        self.session.log.write("load", json!({ "source": format!("{source:?}") }));
        self.worker.load(source.clone());
        self.loading.restart(source);
        self.message = None;
    }

    /// Continues the text at the cursor.
    fn begin(&mut self) {
        let Some(model) = self.loading.model() else { return };
        if !model.has_tokenizer {
            self.message =
                Some("This model has no tokenizer.json and reads no text: load another one.".into());
            return;
        }
        let prompt = Prompt::Text(self.editor.begin());
        self.request(prompt);
    }

    pub(super) fn request(&mut self, prompt: Prompt) {
        let settings = &self.session.state.settings;
        let id = self.run.begin(settings.max_tokens);
        self.worker.generate(Request {
            id,
            prompt,
            sampling: settings.sampling.clone(),
            max_tokens: settings.max_tokens,
            past_end: settings.past_end,
        });
        // The request cancels a rating in progress, so the rating is requested again later.
        self.rated = None;
        self.session.log.write("generate", json!({ "id": id }));
    }

    fn stop(&mut self) {
        self.worker.stop();
        self.session.log.write("stop", json!({}));
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Continue => self.begin(),
            Action::Escape if self.run.is_running() => self.stop(),
            Action::Escape => {
                self.editor.discard();
                self.session.log.write("discarded", json!({ "bytes": self.editor.draft.text().len() }));
            }
            Action::Accept => {
                self.editor.accept();
                self.session.log.write("accepted", json!({ "bytes": self.editor.draft.text().len() }));
            }
            Action::Edited(effect) => {
                let text = self.editor.draft.text();
                self.session
                    .log
                    .write("edited", json!({ "bytes": text.len(), "effect": format!("{effect:?}") }));
                if effect == Effect::Breaks && self.run.is_running() {
                    self.stop();
                }
            }
        }
        self.changed = Instant::now();
    }
}
