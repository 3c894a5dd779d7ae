//! The side panel: model, adapter, sampling, surprise, frames.

use std::ops::RangeInclusive;

use eframe::egui::{self, Align, ComboBox, DragValue, Layout, ProgressBar, RichText, Slider, Ui, vec2};
use wgpt::{LoadPhase, LoadProgress};

use crate::frames::FrameLog;
use crate::gpu::HostDevice;
use crate::heat::{BITS_MAX, Heat};
use crate::log::EventLog;
use crate::state::Settings;
use crate::theme::Palette;
use crate::worker::{ModelInfo, Source};

/// Width of the panel, and of the labels before its controls.
pub const WIDTH: f32 = 312.0;
const LABEL_WIDTH: f32 = 96.0;

/// What the panel shows.
pub struct View<'a> {
    /// The loaded model.
    pub model: Option<&'a ModelInfo>,
    /// Progress of the load, while a model is loading.
    pub loading: Option<&'a Option<LoadProgress>>,
    /// Whether the embedded model is loaded or loading.
    pub embedded: bool,
    /// The device.
    pub device: &'a HostDevice,
    /// The surprise of the text.
    pub heat: &'a Heat,
    /// Frame times.
    pub frames: &'a FrameLog,
    /// Colours.
    pub palette: &'static Palette,
    /// The log of events and of the places of controls.
    pub log: &'a EventLog,
}

/// A request by the user, other than changed settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Load a model.
    Load(Source),
    /// Cancel the load in progress.
    CancelLoad,
    /// Use another adapter, by its name.
    Adapter(String),
}

/// Shows the panel; `directory` is the content of the model's text field.
pub fn show(ui: &mut Ui, view: &View<'_>, settings: &mut Settings, directory: &mut String) -> Option<Wish> {
    let mut wish = None;
    // The scroll bar is in the margin, next to the controls.
    egui::ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
        egui::Frame::new().inner_margin(egui::Margin::symmetric(16, 0)).show(ui, |ui| {
            ui.add_space(2.0);
            section(ui, "Model");
            wish = model(ui, view, directory);
            section(ui, "Adapter");
            wish = adapter(ui, view).or(wish.take());
            section(ui, "Continuation");
            sampling(ui, view.log, settings);
            section(ui, "Surprise");
            surprise(ui, view, settings);
            section(ui, "Frames");
            frames(ui, view, settings);
            ui.add_space(12.0);
        });
    });
    wish
}

fn section(ui: &mut Ui, title: &str) {
    ui.add_space(11.0);
    ui.label(RichText::new(title).heading().color(Palette::of(ui.visuals()).ghost));
}

fn row<T>(ui: &mut Ui, label: &str, control: impl FnOnce(&mut Ui) -> T) -> T {
    ui.horizontal(|ui| {
        let height = ui.spacing().interact_size.y;
        ui.allocate_ui_with_layout(vec2(LABEL_WIDTH, height), Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_width(LABEL_WIDTH);
            ui.label(label);
        });
        control(ui)
    })
    .inner
}

fn quiet(ui: &mut Ui, text: impl Into<String>) {
    ui.label(RichText::new(text).weak().small());
}

fn model(ui: &mut Ui, view: &View<'_>, directory: &mut String) -> Option<Wish> {
    let mut wish = None;
    match (view.loading, view.model) {
        (Some(progress), _) => {
            ui.horizontal(|ui| {
                let cancel = 64.0;
                let bar = bar(progress.as_ref(), ui.available_width() - cancel - ui.spacing().item_spacing.x);
                ui.add(bar);
                let button = ui.add_sized([cancel, 22.0], egui::Button::new("Cancel"));
                view.log.control("cancel-load", button.rect);
                if button.clicked() {
                    wish = Some(Wish::CancelLoad);
                }
            });
        }
        (None, Some(model)) => {
            ui.label(&model.name);
            let parameters = model.n_parameters as f64 / 1e6;
            quiet(
                ui,
                format!(
                    "{parameters:.1} M parameters, context {}, {:.0} MB, loaded in {:.1} s",
                    model.n_ctx,
                    model.bytes as f64 / 1e6,
                    model.took.as_secs_f64()
                ),
            );
        }
        (None, None) => quiet(ui, "No model is loaded."),
    }
    let height = ui.spacing().interact_size.y + 4.0;
    let line = vec2(ui.available_width(), height);
    ui.allocate_ui_with_layout(line, Layout::right_to_left(Align::Center), |ui| {
        let load = ui.add_enabled(!directory.trim().is_empty(), egui::Button::new("Load"));
        view.log.control("load", load.rect);
        let field = egui::TextEdit::singleline(directory)
            .hint_text(RichText::new("Directory in Hugging Face layout").weak())
            .desired_width(f32::INFINITY)
            .margin(vec2(8.0, 4.0));
        let field = ui.add(field);
        view.log.control("model-directory", field.rect);
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        // Read after the field was shown, because the field may have received a character
        // in this frame.
        let path = directory.trim();
        if (load.clicked() || entered) && !path.is_empty() {
            wish = Some(Wish::Load(Source::Directory(path.into())));
        }
    });
    if !view.embedded {
        let embedded = ui.button("Back to the embedded model");
        view.log.control("embedded", embedded.rect);
        if embedded.clicked() {
            wish = Some(Wish::Load(Source::Embedded));
        }
    }
    wish
}

fn bar(progress: Option<&LoadProgress>, width: f32) -> ProgressBar {
    let (fraction, text) = match progress {
        None => (0.0, "Opening files".to_owned()),
        Some(&LoadProgress { phase, done, total }) => {
            let fraction = done as f32 / total.max(1) as f32;
            (fraction, format!("{}: {:.0} %", phase_name(phase), fraction * 100.0))
        }
    };
    ProgressBar::new(fraction).desired_width(width).desired_height(22.0).corner_radius(5.0).text(text)
}

/// The name of a phase.
#[must_use]
pub fn phase_name(phase: LoadPhase) -> &'static str {
    match phase {
        LoadPhase::Plan => "Plan",
        LoadPhase::Read | LoadPhase::Upload => "Weights",
        LoadPhase::Compile => "Kernels",
        LoadPhase::WarmUp => "Warm-up",
        _ => "Loading",
    }
}

fn adapter(ui: &mut Ui, view: &View<'_>) -> Option<Wish> {
    let current = &view.device.info;
    let mut chosen = None;
    let combo = ComboBox::from_id_salt("adapter")
        .width(ui.available_width())
        .selected_text(&current.name)
        .truncate()
        .show_ui(ui, |ui| {
            for adapter in &view.device.adapters {
                if ui.selectable_label(adapter == current, &adapter.name).clicked() && adapter != current {
                    chosen = Some(Wish::Adapter(adapter.name.clone()));
                }
            }
        });
    view.log.control("adapter", combo.response.rect);
    let driver = RichText::new(&current.driver).weak().small();
    ui.add(egui::Label::new(driver).truncate());
    if view.device.adapters.len() > 1 {
        quiet(ui, "Another adapter opens the window anew; text and settings stay.");
    }
    chosen
}

fn sampling(ui: &mut Ui, log: &EventLog, settings: &mut Settings) {
    let sampling = &mut settings.sampling;
    let real = |ui: &mut Ui, name, label: &str, value: &mut f32, range: RangeInclusive<f32>, hint: &str| {
        let slider = Slider::new(value, range).max_decimals(2).step_by(0.01);
        let response = row(ui, label, |ui| ui.add(slider)).on_hover_text(hint);
        log.control(name, response.rect);
    };
    real(
        ui,
        "temperature",
        "Temperature",
        &mut sampling.temperature,
        0.0..=2.0,
        "0 takes the most probable token",
    );
    let top_k = row(ui, "Top-k", |ui| ui.add(Slider::new(&mut sampling.top_k, 0..=200)));
    log.control("top-k", top_k.rect);
    top_k.on_hover_text("Only so many of the most probable tokens; 0 is off");
    real(
        ui,
        "top-p",
        "Top-p",
        &mut sampling.top_p,
        0.01..=1.0,
        "The fewest tokens that are so probable together; 1 is off",
    );
    real(
        ui,
        "min-p",
        "Min-p",
        &mut sampling.min_p,
        0.0..=1.0,
        "Only tokens so probable beside the likeliest; 0 is off",
    );
    real(
        ui,
        "repetition",
        "Repetition",
        &mut sampling.repetition_penalty,
        1.0..=2.0,
        "Penalty on tokens that occurred; 1 is off",
    );
    let most =
        row(ui, "Tokens", |ui| ui.add(Slider::new(&mut settings.max_tokens, 1..=1000).logarithmic(true)));
    log.control("max-tokens", most.rect);
    let end = row(ui, "Past the end", |ui| ui.checkbox(&mut settings.past_end, "go on"));
    log.control("past-end", end.rect);
    end.on_hover_text("Goes on where the model would end the text");
    row(ui, "Seed", |ui| {
        let mut fixed = sampling.seed.is_some();
        let check = ui.checkbox(&mut fixed, "fixed").on_hover_text("The same text each time");
        log.control("seed", check.rect);
        if fixed != sampling.seed.is_some() {
            sampling.seed = fixed.then_some(1);
        }
        if let Some(seed) = &mut sampling.seed {
            ui.add(DragValue::new(seed));
        }
    });
}

fn surprise(ui: &mut Ui, view: &View<'_>, settings: &mut Settings) {
    let check = ui.checkbox(&mut settings.heat, "Colour the text by the model's surprise");
    view.log.control("heat", check.rect);
    ui.add_enabled_ui(settings.heat, |ui| legend(ui, view.palette));
    match view.heat.mean().filter(|_| settings.heat) {
        Some((bits, n)) => {
            quiet(ui, format!("{bits:.2} bits a token over {n} tokens: perplexity {:.1}", bits.exp2()));
        }
        None => quiet(ui, "Point at the text for a token's probability."),
    }
}

/// Draws the colour scale with its ticks, in bits.
fn legend(ui: &mut Ui, palette: &Palette) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 28.0), egui::Sense::hover());
    let bar = egui::Rect::from_min_size(rect.min, vec2(rect.width(), 10.0));
    let steps = 64;
    for step in 0..steps {
        let part = |step: i32| bar.left() + bar.width() * step as f32 / steps as f32;
        let cell = egui::Rect::from_x_y_ranges(part(step)..=part(step + 1), bar.y_range());
        ui.painter().rect_filled(cell, 0.0, palette.heat((step as f32 + 0.5) / steps as f32 * BITS_MAX));
    }
    ui.painter().rect_stroke(bar, 2.0, egui::Stroke::new(1.0, palette.quiet), egui::StrokeKind::Inside);
    for (i, text) in ["0 bits", "4", "8", "12", "16+"].into_iter().enumerate() {
        let x = bar.left() + bar.width() * i as f32 / 4.0;
        let align = match i {
            0 => egui::Align2::LEFT_TOP,
            4 => egui::Align2::RIGHT_TOP,
            _ => egui::Align2::CENTER_TOP,
        };
        let at = egui::pos2(x, bar.bottom() + 2.0);
        ui.painter().text(at, align, text, egui::TextStyle::Small.resolve(ui.style()), palette.quiet);
    }
}

fn frames(ui: &mut Ui, view: &View<'_>, settings: &mut Settings) {
    let graph = view.frames.graph(ui, view.palette.graph);
    view.log.control("graph", graph.rect);
    match view.frames.quantiles() {
        Some(q) => quiet(ui, format!("median {:.1} ms, 95th percentile {:.1} ms", q.p50_ms, q.p95_ms)),
        None => quiet(ui, "Frames are drawn while something moves."),
    }
    ui.horizontal(|ui| {
        let height = ui.spacing().interact_size.y;
        ui.allocate_ui_with_layout(vec2(LABEL_WIDTH, height), Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_width(LABEL_WIDTH);
            let check = ui.checkbox(&mut settings.budgeted, "Budget, ms");
            view.log.control("budget", check.rect);
            check.on_hover_text("Cuts GPU work into pieces, between which the window draws its frames");
        });
        let slider = Slider::new(&mut settings.budget_ms, 1.0..=16.0).max_decimals(1).step_by(0.5);
        ui.add_enabled(settings.budgeted, slider);
    });
}
