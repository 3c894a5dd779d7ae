//! The window and its layout.

mod actions;
mod chores;
mod events;

use std::time::{Duration, Instant};

use eframe::egui::{self, CentralPanel, Frame, Margin, Panel, Rect, ScrollArea, Ui, UiBuilder, pos2, vec2};
use serde_json::json;
use wgpt::ModelOptions;

use crate::bars;
use crate::editor::Editor;
use crate::frames::{FrameLog, REFRESH, SOFTWARE_REFRESH};
use crate::gpu::HostDevice;
use crate::loading::Loading;
use crate::log::EventLog;
use crate::measure::Measure;
use crate::panel::{self, View, Wish};
use crate::run::Run;
use crate::state::{State, Store};
use crate::theme::{self, COLUMN_WIDTH, Palette};
use crate::worker::{Source, Worker};

/// Space above and below the column of text, and minimum space to its left and right.
const COLUMN_TOP: f32 = 36.0;
const COLUMN_SIDE: f32 = 28.0;

/// Why the window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The user closed it.
    Closed,
    /// The user selected another adapter.
    Adapter(String),
    /// The device is lost, with the reason.
    Lost(String),
    /// A measurement failed, with the reason.
    Failed(String),
}

/// State that outlives a window.
pub struct Session {
    /// Text and settings.
    pub state: State,
    /// The file that text and settings are stored in.
    pub store: Store,
    /// The log of events.
    pub log: EventLog,
    /// The model named on the command line.
    pub source: Option<Source>,
    /// How long to measure; `None` for no measurement.
    pub measure: Option<Duration>,
    /// Whether frames are paced during a measurement.
    pub paced: bool,
    /// Time limit of a submit without a budget, if set on the command line.
    pub max_submit: Option<Duration>,
    /// When to destroy the device.
    pub fault: Option<Instant>,
    /// A message to show when the window opens.
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
    /// The model, and the load in progress.
    loading: Loading,
    /// The running continuation, or the last one.
    run: Run,
    frames: FrameLog,
    measure: Option<Measure>,
    /// Content of the model's text field.
    directory: String,
    message: Option<String>,
    /// The text revision for which a rating was last requested.
    rated: Option<u64>,
    changed: Instant,
    saved: State,
    /// Whether the previous frame requested this one.
    animated: bool,
    first_frame: bool,
    /// Whether to configure the window's surface again while the engine's gate is closed.
    configure: bool,
    gate_closed: bool,
}

impl<'a> App<'a> {
    /// Starts the engine's thread and begins to load the model.
    ///
    /// # Errors
    /// If the thread cannot be started.
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
        let mut worker = Worker::start(device.clone(), context.clone(), model_options(session.max_submit))?;
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

    /// Configures the surface again after a failure. The engine's gate is closed meanwhile,
    /// so that the queue becomes idle. The renderer configures a surface only if its
    /// configuration changed. So this method switches the frame latency between `None` and
    /// 2, which mean the same to wgpu.
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

    /// Requests the next frame while something runs: normally at once, limited by the
    /// display's refresh. On a software adapter it waits for the refresh interval, so that
    /// the engine gets its share of the CPU. A measurement does not wait, unless it is
    /// paced.
    fn request_frame(&self, context: &egui::Context) {
        let paced = self.measure.is_none() || self.session.paced;
        if self.device.software && paced && !self.gate_closed {
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
                self.end(Outcome::Adapter(name), ui.ctx());
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

fn model_options(max_submit: Option<Duration>) -> ModelOptions {
    let usual = ModelOptions::default();
    ModelOptions { max_submit: max_submit.unwrap_or(usual.max_submit), ..usual }
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
            // With nothing to draw, the renderer does not request buffers from the lost
            // device, which would panic.
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

/// Size of the window on first start.
pub const WINDOW: egui::Vec2 = vec2(1120.0, 800.0);
