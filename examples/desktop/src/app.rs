//! The window: what stands where, and what follows from what.

use std::time::{Duration, Instant};

use eframe::egui::{self, CentralPanel, Frame, Margin, Panel, Rect, ScrollArea, Ui, UiBuilder, pos2, vec2};
use serde_json::json;
use wgpt::engine::FinishReason;
use wgpt::{Error, ErrorKind};

use crate::bars;
use crate::editor::{Action, Editor};
use crate::frames::{FrameLog, REFRESH, SOFTWARE_REFRESH};
use crate::generate::Prompt;
use crate::gpu::{Fault, HostDevice};
use crate::heat::Heat;
use crate::loading::Loading;
use crate::log::EventLog;
use crate::measure::{self, Measure, Step};
use crate::panel::{self, View, Wish};
use crate::run::Run;
use crate::state::{State, Store};
use crate::theme::{self, COLUMN_WIDTH, Palette};
use crate::worker::{Event, Request, Source, Worker};

/// How long the text rests before it is rated.
const RATE_AFTER: Duration = Duration::from_millis(300);
/// How long text and settings rest before they are kept.
const SAVE_AFTER: Duration = Duration::from_secs(2);

/// Space above and below the column of text, and beside it at least.
const COLUMN_TOP: f32 = 36.0;
const COLUMN_SIDE: f32 = 28.0;

/// Why the window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The user closed it.
    Closed,
    /// Another adapter is wanted.
    Adapter(String),
    /// The device is gone, and why.
    Lost(String),
}

/// What outlives a window.
pub struct Session {
    /// Text and settings.
    pub state: State,
    /// Their file.
    pub store: Store,
    /// Where events go.
    pub log: EventLog,
    /// The model that the command line names.
    pub source: Option<Source>,
    /// How long to measure, if at all.
    pub measure: Option<Duration>,
    /// When to destroy the device.
    pub fault: Option<Instant>,
    /// What to tell the user first.
    pub notice: Option<String>,
    /// How the last window ended.
    pub outcome: Outcome,
}

/// One window.
pub struct App<'a> {
    session: &'a mut Session,
    device: HostDevice,
    worker: Worker,
    editor: Editor,
    /// The model, or what is loaded.
    loading: Loading,
    /// The continuation that runs, or the last one.
    run: Run,
    frames: FrameLog,
    measure: Option<Measure>,
    /// What stands in the model's text field.
    directory: String,
    message: Option<String>,
    /// The revision whose rating was asked for.
    rated: Option<u64>,
    changed: Instant,
    saved: State,
    /// Whether the frame before asked for this one.
    animated: bool,
    first_frame: bool,
    /// Whether the window's surface is to be configured anew, with the engine's gate closed.
    configure: bool,
    gate_closed: bool,
}

impl<'a> App<'a> {
    /// Opens the window's thread and begins to load.
    ///
    /// # Errors
    /// Without a thread.
    pub fn new(
        context: &egui::Context,
        device: HostDevice,
        session: &'a mut Session,
    ) -> std::io::Result<Self> {
        theme::install(context);
        let settings = &session.state.settings;
        let source = session.source.clone().unwrap_or_else(|| match &settings.model {
            Some(dir) => Source::Directory(dir.clone()),
            None => Source::Embedded,
        });
        let mut worker = Worker::start(device.clone(), context.clone())?;
        worker.load(source.clone());
        let mut app = App {
            editor: Editor::new(session.state.text.clone()),
            loading: Loading::begin(source),
            run: Run::default(),
            frames: FrameLog::new(if device.software { SOFTWARE_REFRESH } else { REFRESH }),
            measure: session.measure.map(Measure::new),
            directory: settings.model.as_ref().map_or(String::new(), |dir| dir.display().to_string()),
            message: session.notice.take().or_else(|| device.notice.clone()),
            rated: None,
            changed: Instant::now(),
            saved: session.state.clone(),
            animated: false,
            first_frame: true,
            configure: false,
            gate_closed: false,
            session,
            device,
            worker,
        };
        app.session
            .log
            .write("window", json!({ "adapter": app.device.info.name, "driver": app.device.info.driver }));
        app.apply_settings(context);
        Ok(app)
    }

    fn apply_settings(&mut self, context: &egui::Context) {
        let settings = &self.session.state.settings;
        context.set_theme(egui::ThemePreference::from(settings.theme));
        self.worker.pace.set(settings.budgeted.then_some(settings.budget_ms));
        self.changed = Instant::now();
        self.session.log.write("settings", json!(settings));
    }

    fn load(&mut self, source: Source) {
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

    fn request(&mut self, prompt: Prompt) {
        let settings = &self.session.state.settings;
        let id = self.run.begin(settings.max_tokens);
        self.worker.generate(Request {
            id,
            prompt,
            sampling: settings.sampling.clone(),
            max_tokens: settings.max_tokens,
            past_end: settings.past_end,
        });
        // A rating that was cancelled is asked for again.
        self.rated = None;
        self.session.log.write("generate", json!({ "id": id }));
    }

    fn stop(&mut self) {
        self.worker.stop();
        self.session.log.write("stop", json!({}));
    }

    fn act(&mut self, action: Action) {
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
                if effect == crate::draft::Effect::Breaks && self.run.is_running() {
                    self.stop();
                }
            }
        }
        self.changed = Instant::now();
    }

    fn take_events(&mut self, context: &egui::Context) {
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
            self.message = Some("The engine's thread ended by a fault of its own: close the window and report it; the text is kept.".into());
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
            Event::Loaded(model) => {
                log.write("loaded", json!({ "model": model.name, "seconds": model.took.as_secs_f64() }));
                let source = self.loading.loaded(model);
                self.session.state.settings.model = match source {
                    Some(Source::Directory(dir)) => Some(dir),
                    Some(Source::Random(_)) => self.session.state.settings.model.clone(),
                    _ => None,
                };
                self.rated = None;
            }
            Event::LoadFailed { error, kept } => {
                log.write("load failed", json!({ "error": error.to_string() }));
                self.loading.failed(kept);
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
                // An edit since then asks anew.
                if revision == self.editor.draft.revision() {
                    let heat = Heat::new(self.editor.draft.text(), ratings);
                    let cells = heat.as_ref().map(|heat| heat.cells().len());
                    log.write(
                        "rated",
                        json!({ "cells": cells, "bits": heat.as_ref().and_then(Heat::mean).map(|m| m.0) }),
                    );
                    self.message = self.message.take().or_else(|| {
                        heat.is_none().then(|| {
                            "This model's tokenizer rewrites the text: its surprise cannot be shown.".into()
                        })
                    });
                    self.editor.heat = heat.unwrap_or_default();
                }
            }
            Event::RatingFailed(error) => self.failed("The text was not rated", &error, context),
        }
    }

    /// Shows an error; a lost device ends the window, and the next one takes over.
    fn failed(&mut self, what: &str, error: &Error, context: &egui::Context) {
        match error.kind() {
            ErrorKind::Cancelled => {}
            ErrorKind::DeviceLost => self.lost(&error.to_string(), context),
            _ => self.message = Some(format!("{what}. {error}")),
        }
    }

    fn lost(&mut self, message: &str, context: &egui::Context) {
        self.session.log.write("device lost", json!({ "message": message }));
        self.session.outcome = Outcome::Lost(message.to_owned());
        context.send_viewport_cmd(egui::ViewportCommand::Close);
    }

    /// Asks for what is due: a rating, a save, the next step of a measurement.
    fn keep_up(&mut self, context: &egui::Context) {
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

    fn save(&mut self) {
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
                let report = measure.report(&frames, &self.device.info, model, budget, window.into());
                println!("{report}");
                measure.step = Step::Done;
                context.send_viewport_cmd(egui::ViewportCommand::Close);
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
            measure.prompt_tokens = self.run.prompt_tokens();
        }
    }

    /// Configures the surface where that failed: behind a closed gate the queue is idle.
    /// A changed configuration is what makes the renderer do so; `None` and 2 frames mean
    /// the same to wgpu.
    fn configure_surface(&mut self, frame: &mut eframe::Frame) {
        if std::mem::take(&mut self.gate_closed) {
            self.worker.pace.open();
        }
        let Some(mut config) = frame.wgpu_surface_config().filter(|_| std::mem::take(&mut self.configure))
        else {
            return;
        };
        self.session.log.write("surface", json!({}));
        self.worker.pace.close();
        config.desired_maximum_frame_latency = match config.desired_maximum_frame_latency {
            None => Some(2),
            Some(_) => None,
        };
        frame.set_wgpu_surface_config(config);
        self.gate_closed = true;
    }

    /// The next frame while something runs: at once, when the display shows it, or on a
    /// software adapter when the engine has had its share. A measurement leaves it none.
    fn request_frame(&self, context: &egui::Context) {
        if self.device.software && self.measure.is_none() && !self.gate_closed {
            context.request_repaint_after(self.frames.refresh);
        } else {
            context.request_repaint();
        }
    }

    fn panels(&mut self, ui: &mut Ui, palette: &'static Palette) {
        let before = self.session.state.settings.clone();
        let log = &self.session.log;
        let settings = &mut self.session.state.settings;
        let can = bars::Can {
            begin: self.loading.model().is_some() && !self.run.is_running(),
            stop: self.run.is_running(),
            accept: self.editor.has_ghost() && !self.run.is_running(),
        };
        let fill = ui.visuals().panel_fill;
        let margin = |x, y| Frame::new().fill(fill).inner_margin(Margin::symmetric(x, y));
        let action = Panel::top("top")
            .frame(margin(16, 9))
            .show(ui, |ui| bars::top(ui, can, settings, palette, log))
            .inner;
        Panel::bottom("bottom")
            .frame(margin(16, 6))
            .show(ui, |ui| bars::status(ui, &self.run, &self.loading, self.editor.draft.text()));
        let view = View {
            model: self.loading.model(),
            loading: self.loading.running(),
            embedded: self.loading.is_embedded(),
            device: &self.device,
            heat: &self.editor.heat,
            frames: &self.frames,
            palette,
            log,
        };
        let wish = Panel::right("panel")
            .frame(margin(0, 0))
            .resizable(false)
            .exact_size(panel::WIDTH)
            .show(ui, |ui| panel::show(ui, &view, settings, &mut self.directory))
            .inner;
        if before != self.session.state.settings {
            self.apply_settings(ui.ctx());
        }
        match wish {
            Some(Wish::Load(source)) => self.load(source),
            Some(Wish::CancelLoad) => self.worker.cancel_load(),
            Some(Wish::Adapter(name)) => {
                self.session.state.settings.adapter = Some(name.clone());
                self.session.outcome = Outcome::Adapter(name);
                ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close);
            }
            None => {}
        }
        if let Some(action) = action {
            self.act(action);
            self.editor.focus(ui);
        }
    }

    fn text(&mut self, ui: &mut Ui, palette: &'static Palette) {
        let heat = self.session.state.settings.heat;
        let paper = Frame::new().fill(palette.paper);
        let actions = CentralPanel::default().frame(paper).show(ui, |ui| {
            if bars::message(ui, self.message.as_deref(), palette, &self.session.log) {
                self.message = None;
            }
            let height = (ui.available_height() - 2.0 * COLUMN_TOP - 8.0).max(0.0);
            let scrolled = ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
                let width = COLUMN_WIDTH.min(ui.available_width() - 2.0 * COLUMN_SIDE);
                let area = ui.available_rect_before_wrap();
                let corner = pos2(area.center().x - width / 2.0, area.top() + COLUMN_TOP);
                let column = Rect::from_min_size(corner, vec2(width, area.height()));
                let shown = ui.scope_builder(UiBuilder::new().max_rect(column), |ui| {
                    self.editor.show(ui, height, palette, heat)
                });
                ui.add_space(COLUMN_TOP);
                shown.inner
            });
            self.session.log.control("text", scrolled.inner_rect);
            scrolled.inner
        });
        for action in actions.inner {
            self.act(action);
        }
    }
}

impl eframe::App for App<'_> {
    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        let context = ui.ctx().clone();
        self.frames.begin(Instant::now(), frame.info().cpu_usage, self.animated, self.run.is_reading());
        if std::mem::take(&mut self.first_frame) {
            self.editor.focus(ui);
        }
        if context.input_mut(|input| input.consume_key(egui::Modifiers::COMMAND, egui::Key::Q)) {
            context.send_viewport_cmd(egui::ViewportCommand::Close);
        }
        self.take_events(&context);
        if matches!(self.session.outcome, Outcome::Lost(_)) {
            // With nothing to draw the renderer does not ask the lost device for buffers,
            // which would panic.
            return;
        }
        self.configure_surface(frame);
        let palette = Palette::of(&context.global_style().visuals);
        self.panels(ui, palette);
        self.text(ui, palette);
        self.keep_up(&context);
        self.animated = self.gate_closed
            || self.run.is_running()
            || self.loading.running().is_some()
            || self.measure.is_some();
        if self.animated {
            self.request_frame(&context);
        }
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        Palette::of(visuals).paper.to_normalized_gamma_f32()
    }

    fn on_exit(&mut self) {
        self.worker.cancel_load();
        self.worker.stop();
        self.session.state.text.clear();
        self.session.state.text.push_str(self.editor.draft.text());
        if self.measure.is_none() {
            self.save();
        }
        let bytes = self.session.state.text.len();
        self.session.log.write("closed", json!({ "bytes": bytes }));
    }
}

/// The size of a first window.
pub const WINDOW: egui::Vec2 = vec2(1120.0, 800.0);
