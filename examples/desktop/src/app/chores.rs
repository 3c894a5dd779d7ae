//! Work that becomes due between frames: a rating, a save, the next step of a measurement.

use std::io::Write as _;
use std::time::{Duration, Instant};

use eframe::egui;

use super::{App, Outcome};
use crate::editor::Editor;
use crate::measure::{self, Measure, Step};

/// How long the text must be unchanged before it is rated.
const RATE_AFTER: Duration = Duration::from_millis(300);
/// How long text and settings must be unchanged before they are saved.
const SAVE_AFTER: Duration = Duration::from_secs(2);

impl App<'_> {
    /// Starts work that is due: a rating, a save, the next step of a measurement.
    pub(super) fn keep_up(&mut self, context: &egui::Context) {
        self.step_measure(context);
        self.session.state.text.clear();
        self.session.state.text.push_str(self.editor.draft.text());
        let resting = self.changed.elapsed();
        let revision = self.editor.draft.revision();
        let ready = self.loading.model().is_some_and(|model| model.has_tokenizer)
            && self.session.state.settings.heat
            && self.measure.is_none()
            && !self.run.is_running();
        if ready && self.rated != Some(revision) {
            if resting >= RATE_AFTER {
                self.rated = Some(revision);
                self.worker.rate(revision, self.editor.draft.text().to_owned());
            } else {
                context.request_repaint_after(RATE_AFTER - resting);
            }
        }
        if self.measure.is_none() && self.saved != self.session.state {
            if resting >= SAVE_AFTER {
                self.save();
            } else {
                context.request_repaint_after(SAVE_AFTER - resting);
            }
        }
    }

    pub(super) fn save(&mut self) {
        self.saved.clone_from(&self.session.state);
        if let Err(message) = self.session.store.save(&self.session.state) {
            self.message = Some(message);
        }
    }

    fn step_measure(&mut self, context: &egui::Context) {
        let (Some(measure), Some(model)) = (&mut self.measure, self.loading.model()) else { return };
        let has_tokenizer = model.has_tokenizer;
        match measure.step {
            Step::Loading => {
                self.frames.record();
                measure.step = Step::Idle(Instant::now());
            }
            Step::Idle(_) if measure.is_over() => {
                measure.idle = self.frames.take_recorded();
                self.frames.record();
                measure.step = Step::Generating(Instant::now());
            }
            Step::Generating(_) if measure.is_over() => {
                let frames = self.frames.take_recorded();
                let window = context.content_rect().size();
                let settings = &self.session.state.settings;
                let budget = settings.budgeted.then_some(settings.budget_ms);
                let report = measure.report(
                    &frames,
                    &self.device.info,
                    model,
                    (budget, self.session.paced),
                    window.into(),
                );
                measure.step = Step::Done;
                // A missing reader of stdout is not an error.
                let _ = writeln!(std::io::stdout(), "{report}");
                self.end(Outcome::Closed, context);
            }
            Step::Generating(_) if !self.run.is_running() => {
                measure.prompts += 1;
                self.editor = Editor::new(String::new());
                self.editor.begin();
                self.session.state.settings.max_tokens = measure::MAX_TOKENS;
                self.session.state.settings.past_end = true;
                self.request(Measure::prompt(has_tokenizer));
            }
            _ => {}
        }
        if let Some(measure) = &mut self.measure {
            measure.prompt_tokens = measure.prompt_tokens.max(self.run.prompt_tokens());
        }
    }
}
