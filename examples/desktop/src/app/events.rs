//! Handles the events of the engine and the device.

use std::time::Instant;

use eframe::egui;
use serde_json::json;
use wgpt::FinishReason;
use wgpt::{Error, ErrorKind};

use super::{App, Outcome};
use crate::gpu::Fault;
use crate::heat::Heat;
use crate::panel;
use crate::rate::Rating;
use crate::worker::{Event, ModelInfo, Source};

impl App<'_> {
    pub(super) fn take_events(&mut self, context: &egui::Context) {
        let events: Vec<Event> = self.worker.events().collect();
        for event in events {
            self.take_event(event, context);
        }
        if let Some(when) = self.session.fault {
            if when <= Instant::now() {
                self.session.fault = None;
                self.device.destroy();
            }
            context.request_repaint_after(when.saturating_duration_since(Instant::now()));
        }
        match self.device.take_fault() {
            Some(Fault::Lost(message)) => self.lost(&message, context),
            Some(Fault::Surface) => self.configure = true,
            Some(Fault::Interface(message)) => {
                self.session.log.write("fault", json!({ "message": message }));
                self.message = Some(format!("The driver refused something of the window's: {message}"));
            }
            None => {}
        }
        if self.worker.is_dead() && self.message.is_none() {
            self.message = Some(
                "The engine's thread ended by a fault of its own. The text is kept: start the program again."
                    .into(),
            );
        }
    }

    fn take_event(&mut self, event: Event, context: &egui::Context) {
        let log = &self.session.log;
        match event {
            Event::Progress(progress) => {
                if self.loading.progress(progress) {
                    log.write("phase", json!({ "name": panel::phase_name(progress.phase) }));
                }
            }
            Event::Loaded(model) => self.loaded(model),
            Event::LoadFailed { error, kept } => {
                log.write("load failed", json!({ "error": error.to_string() }));
                self.loading.failed(kept);
                self.rated = None;
                self.failed("The model was not loaded", &error, context);
            }
            Event::Prompt { id, tokens, dropped } => self.run.prompt(id, tokens, dropped),
            Event::Piece { id, text, at } => {
                if let Some(first) = self.run.piece(id, at) {
                    self.editor.push(&text);
                    self.changed = Instant::now();
                    if first {
                        log.write("first piece", json!({ "id": id }));
                    }
                    if let Some(measure) = &mut self.measure {
                        measure.tokens += 1;
                    }
                }
            }
            Event::Ended { id, reason, tokens, prompt_seconds, rate } => {
                self.run.ended(id, rate, reason);
                let bytes = self.editor.draft.text().len();
                log.write(
                    "ended",
                    json!({ "id": id, "reason": reason.name(), "tokens": tokens, "bytes": bytes,
                            "prompt_seconds": prompt_seconds, "tokens_per_second": rate }),
                );
            }
            Event::Failed { id, error } => {
                log.write("failed", json!({ "id": id, "error": error.to_string() }));
                self.run.ended(id, 0.0, FinishReason::Cancelled);
                self.failed("The text was not continued", &error, context);
            }
            Event::Rated { revision, ratings } => {
                // After an edit, a new rating is requested.
                if revision == self.editor.draft.revision() {
                    self.rated(ratings);
                }
            }
            Event::RatingFailed(error) => self.failed("The text was not rated", &error, context),
        }
    }

    fn loaded(&mut self, model: ModelInfo) {
        let seconds = model.took.as_secs_f64();
        self.session.log.write("loaded", json!({ "model": model.name, "seconds": seconds }));
        match self.loading.loaded(model) {
            Some(Source::Directory(dir)) => self.session.state.settings.model = Some(dir),
            Some(Source::Embedded) => self.session.state.settings.model = None,
            // Random weights are only for measurements; the next start does not load them.
            Some(Source::Random(_)) | None => {}
        }
        self.rated = None;
    }

    fn rated(&mut self, ratings: Vec<Rating>) {
        let heat = Heat::new(self.editor.draft.text(), ratings);
        let cells = heat.as_ref().map(|heat| heat.cells().len());
        let bits = heat.as_ref().and_then(Heat::mean).map(|(bits, _)| bits);
        self.session.log.write("rated", json!({ "cells": cells, "bits": bits }));
        if heat.is_none() && self.message.is_none() {
            self.message =
                Some("This model's tokenizer rewrites the text: its surprise cannot be shown.".into());
        }
        self.editor.heat = heat.unwrap_or_default();
    }

    /// Shows an error. A lost device ends the window, and a new one opens. Any other error
    /// ends a measurement.
    fn failed(&mut self, what: &str, error: &Error, context: &egui::Context) {
        let message = format!("{what}. {error}");
        match error.kind() {
            ErrorKind::Cancelled => {}
            ErrorKind::DeviceLost => self.lost(&error.to_string(), context),
            _ if self.measure.is_some() => self.end(Outcome::Failed(message), context),
            _ => self.message = Some(message),
        }
    }

    fn lost(&mut self, message: &str, context: &egui::Context) {
        self.session.log.write("device lost", json!({ "message": message }));
        self.end(Outcome::Lost(message.to_owned()), context);
    }

    /// Closes the window without a user's request, with this outcome.
    pub(super) fn end(&mut self, outcome: Outcome, context: &egui::Context) {
        self.session.outcome = outcome;
        context.send_viewport_cmd(egui::ViewportCommand::Close);
    }
}
