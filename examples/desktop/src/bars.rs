//! The bars above and below the text, and messages.

use eframe::egui::{self, Align, Button, Frame, Layout, Margin, RichText, Ui};

use crate::editor::Action;
use crate::loading::Loading;
use crate::log::EventLog;
use crate::run::Run;
use crate::state::{Settings, Theme};
use crate::theme::Palette;

/// Which buttons are enabled.
#[derive(Clone, Copy, Debug)]
pub struct Can {
    /// A continuation can start.
    pub begin: bool,
    /// A continuation is running.
    pub stop: bool,
    /// A continuation can be accepted or discarded.
    pub accept: bool,
}

/// The bar above the text.
pub fn top(
    ui: &mut Ui,
    can: Can,
    settings: &mut Settings,
    palette: &Palette,
    log: &EventLog,
) -> Option<Action> {
    let mut action = None;
    ui.horizontal(|ui| {
        let mut button = |ui: &mut Ui, name, enabled, label: &str, key: &str, first: bool, does| {
            let text =
                if first { RichText::new(label).color(palette.on_accent) } else { RichText::new(label) };
            let mut button = Button::new(text).min_size(egui::vec2(84.0, 28.0));
            if first {
                button = button.fill(palette.accent);
            }
            let response = ui.add_enabled(enabled, button).on_hover_text(key);
            log.control(name, response.rect);
            if response.clicked() {
                action = Some(does);
            }
        };
        if can.stop {
            button(ui, "stop", true, "Stop", "Esc", true, Action::Escape);
        } else {
            button(ui, "continue", can.begin, "Continue", "Ctrl+Enter", true, Action::Continue);
        }
        button(ui, "accept", can.accept, "Accept", "Tab", false, Action::Accept);
        button(ui, "discard", can.accept, "Discard", "Esc, or type over it", false, Action::Escape);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            for (theme, name) in [(Theme::Dark, "Dark"), (Theme::Light, "Light"), (Theme::System, "Auto")] {
                let label = ui.selectable_value(&mut settings.theme, theme, name);
                if theme == Theme::Dark {
                    log.control("dark", label.rect);
                }
            }
        });
    });
    action
}

/// The bar below the text.
pub fn status(ui: &mut Ui, run: &Run, loading: &Loading, text: &str) {
    let status = match (loading.running(), loading.model(), run.status()) {
        (Some(_), ..) => "Loading the model; the text can be written already".to_owned(),
        (None, None, _) => "No model is loaded".to_owned(),
        (None, Some(_), Some(status)) => status,
        (None, Some(_), None) => "Ready: Ctrl+Enter continues at the cursor".to_owned(),
    };
    ui.horizontal(|ui| {
        ui.label(RichText::new(status).weak());
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let words = text.split_whitespace().count();
            ui.label(RichText::new(format!("{words} {}", if words == 1 { "word" } else { "words" })).weak());
            if let Some(rate) = run.rate() {
                ui.label(format!("{rate:.0} tokens/s"));
                ui.separator();
            }
        });
    });
}

/// Shows a message above the text. Returns whether it was dismissed.
pub fn message(ui: &mut Ui, message: Option<&str>, palette: &Palette, log: &EventLog) -> bool {
    let Some(message) = message else { return false };
    let mut dismissed = false;
    let shown = Frame::new().fill(palette.alarm).inner_margin(Margin::symmetric(16, 10)).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let button = ui.button("Dismiss");
                log.control("dismiss", button.rect);
                dismissed = button.clicked();
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(egui::Label::new(message).wrap().selectable(true));
                });
            });
        });
    });
    log.control("message", shown.response.rect);
    dismissed
}
