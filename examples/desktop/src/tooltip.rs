//! The tooltip for a piece of the text.

use eframe::egui::{self, Grid, RichText, Ui};

use crate::heat::Cell;
use crate::theme::Palette;

/// Shows token, probability, rank and bits of each of a cell's tokens.
pub fn show(ui: &mut Ui, cell: &Cell, palette: &Palette) {
    ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
    let quiet = |text: String| RichText::new(text).color(palette.quiet).small();
    Grid::new("token").num_columns(2).spacing([14.0, 3.0]).show(ui, |ui| {
        let mut row = |name: &str, value: RichText| {
            ui.label(quiet(name.to_owned()));
            ui.label(value);
            ui.end_row();
        };
        for token in &cell.tokens {
            row("token", RichText::new(written(&token.bytes)).monospace());
            let Some(score) = &token.score else {
                row("", quiet("the text's first: nothing stands before it".into()));
                continue;
            };
            row("probability", RichText::new(percent(score.logprob)));
            row("surprise", RichText::new(bits(score.logprob)));
            row("rank", RichText::new(rank(score.rank)));
            if score.rank > 0 {
                let best = format!("{}  {}", written(&score.best), percent(score.best_logprob));
                row("most probable", RichText::new(best).monospace());
            }
        }
    });
    if cell.tokens.len() > 1 {
        ui.label(quiet(format!("{} tokens share this character", cell.tokens.len())));
    }
}

/// A token as text. Spaces and line breaks are visible; parts of characters are shown as
/// bytes.
#[must_use]
pub fn written(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(' ', "\u{b7}").replace('\n', "\\n").replace('\t', "\\t"),
        Err(_) => bytes.iter().map(|byte| format!("<{byte:02X}>")).collect(),
    }
}

fn percent(logprob: f32) -> String {
    let percent = f64::from(logprob).exp() * 100.0;
    match percent {
        p if p >= 10.0 => format!("{p:.0} %"),
        p if p >= 0.1 => format!("{p:.1} %"),
        p if p >= 1e-4 => format!("{p:.4} %"),
        p => format!("{p:.1e} %"),
    }
}

fn bits(logprob: f32) -> String {
    format!("{:.1} bits", (-logprob / std::f32::consts::LN_2).max(0.0))
}

fn rank(better: u32) -> String {
    match better {
        0 => "1, the most probable".into(),
        n => (n + 1).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_parts_of_tokens_are_made_visible() {
        assert_eq!(written(b" cat\n"), "\u{b7}cat\\n");
        assert_eq!(written(&"🎉".as_bytes()[..3]), "<F0><9F><8E>");
        assert_eq!(written("日".as_bytes()), "日");
    }

    #[test]
    fn probabilities_keep_their_significant_digits() {
        let written = |p: f64| percent(p.ln() as f32);
        assert_eq!(written(0.5), "50 %");
        assert_eq!(written(0.0123), "1.2 %");
        assert_eq!(written(0.00012), "0.0120 %");
        assert_eq!(written(1e-9), "1.0e-7 %");
        assert_eq!(bits(-std::f32::consts::LN_2 * 3.0), "3.0 bits");
        assert_eq!([rank(0), rank(6)], ["1, the most probable", "7"]);
    }
}
