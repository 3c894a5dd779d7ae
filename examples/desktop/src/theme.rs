//! Colours and text sizes.

use eframe::egui::{self, Color32, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Visuals, vec2};

use crate::frames::GraphColors;
use crate::heat::BITS_MAX;

/// Size of the user's text, in points.
pub const TEXT_SIZE: f32 = 18.0;
/// Height of a line of the user's text.
pub const LINE_HEIGHT: f32 = 29.0;
/// Width of the text column: about 75 characters (Bringhurst recommends 45 to 75).
pub const COLUMN_WIDTH: f32 = 640.0;

/// Colours that egui's visuals do not have.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Background of the text.
    pub paper: Color32,
    /// The user's text.
    pub ink: Color32,
    /// The continuation that the user has not accepted yet.
    pub ghost: Color32,
    /// Secondary text, with a contrast of at least 4.5 to 1 on both backgrounds.
    pub quiet: Color32,
    /// The button for the main action.
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// Background of an error message.
    pub alarm: Color32,
    /// The colour scale for surprise, in equal steps from 0 bits to [`BITS_MAX`].
    ramp: [Color32; 6],
    /// The graph of frame times.
    pub graph: GraphColors,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// The scale is ColorBrewer's YlOrBr without its dark end, on which dark text would be hard
/// to read. It is safe for colour-blind readers (Harrower and Brewer 2003).
const LIGHT: Palette = Palette {
    paper: rgb(0xfdfcf9),
    ink: rgb(0x1f2328),
    ghost: rgb(0x4a67a6),
    quiet: rgb(0x5f656d),
    accent: rgb(0x2f5bb7),
    on_accent: rgb(0xffffff),
    alarm: rgb(0xfbe3df),
    ramp: [rgb(0xfdfcf9), rgb(0xfff3c4), rgb(0xfee08b), rgb(0xfec44f), rgb(0xfe9f35), rgb(0xf0801f)],
    graph: GraphColors {
        background: rgb(0xf6f5f1),
        bar: rgb(0xa9bfe8),
        late: rgb(0xe8934a),
        busy: rgb(0x5b7fc9),
        line: rgb(0x6f757d),
        text: rgb(0x5f656d),
    },
};

/// The scale is matplotlib's magma without its bright end, on which light text would be
/// hard to read. Its lightness rises evenly, also for colour-blind readers (Smith and van
/// der Walt 2015).
const DARK: Palette = Palette {
    paper: rgb(0x17181c),
    ink: rgb(0xe8e6e1),
    ghost: rgb(0x93b4f5),
    quiet: rgb(0x9aa0a8),
    accent: rgb(0x3d6fd1),
    on_accent: rgb(0xffffff),
    alarm: rgb(0x4a2323),
    ramp: [rgb(0x17181c), rgb(0x2c1a4d), rgb(0x541a73), rgb(0x7d2482), rgb(0x9c2e7f), rgb(0xb53667)],
    graph: GraphColors {
        background: rgb(0x1c1e23),
        bar: rgb(0x3c5688),
        late: rgb(0xc07533),
        busy: rgb(0x7ea3ee),
        line: rgb(0x8a9098),
        text: rgb(0x9aa0a8),
    },
};

impl Palette {
    /// The palette of the current theme.
    #[must_use]
    pub fn of(visuals: &Visuals) -> &'static Palette {
        if visuals.dark_mode { &DARK } else { &LIGHT }
    }

    /// The colour for a surprise; values above [`BITS_MAX`] get the last one.
    #[must_use]
    pub fn heat(&self, bits: f32) -> Color32 {
        let steps = (self.ramp.len() - 1) as f32;
        let place = (bits / BITS_MAX).clamp(0.0, 1.0) * steps;
        let low = (place as usize).min(self.ramp.len() - 2);
        self.ramp[low].lerp_to_gamma(self.ramp[low + 1], place - low as f32)
    }
}

/// Installs both themes.
pub fn install(context: &egui::Context) {
    for (theme, palette) in [(egui::Theme::Light, &LIGHT), (egui::Theme::Dark, &DARK)] {
        context.style_mut_of(theme, |style| {
            style.text_styles = [
                (TextStyle::Small, 11.5),
                (TextStyle::Body, 13.5),
                (TextStyle::Button, 13.5),
                (TextStyle::Heading, 14.0),
                (TextStyle::Monospace, 12.5),
            ]
            .map(|(name, size)| {
                let family = if name == TextStyle::Monospace {
                    FontFamily::Monospace
                } else {
                    FontFamily::Proportional
                };
                (name, FontId::new(size, family))
            })
            .into();
            style.spacing.item_spacing = vec2(8.0, 5.0);
            style.spacing.button_padding = vec2(10.0, 4.0);
            style.spacing.interact_size = vec2(52.0, 21.0);
            style.spacing.slider_width = 116.0;
            let visuals = &mut style.visuals;
            visuals.override_text_color = Some(palette.ink);
            visuals.weak_text_color = Some(palette.quiet);
            visuals.slider_trailing_fill = true;
            visuals.selection.bg_fill = palette.accent.gamma_multiply(0.55);
            visuals.selection.stroke = Stroke::new(1.0, palette.ink);
            visuals.hyperlink_color = palette.accent;
            let panel = if theme == egui::Theme::Light { rgb(0xf1f0ec) } else { rgb(0x212329) };
            visuals.panel_fill = panel;
            visuals.window_fill = panel;
            visuals.extreme_bg_color = palette.paper;
            for widget in [
                &mut visuals.widgets.noninteractive,
                &mut visuals.widgets.inactive,
                &mut visuals.widgets.hovered,
                &mut visuals.widgets.active,
                &mut visuals.widgets.open,
            ] {
                widget.corner_radius = CornerRadius::same(5);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2's relative luminance.
    fn luminance(color: Color32) -> f32 {
        let [r, g, b, _] = egui::Rgba::from(color).to_array();
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn text_is_readable_on_every_background() {
        for palette in [&LIGHT, &DARK] {
            for step in 0..=32 {
                let heat = palette.heat(step as f32 * 0.5);
                assert!(contrast(palette.ink, heat) >= 4.5, "{step} {}", contrast(palette.ink, heat));
            }
            for (color, background) in [
                (palette.ghost, palette.paper),
                (palette.quiet, palette.paper),
                (palette.on_accent, palette.accent),
                (palette.ink, palette.alarm),
                (palette.graph.text, palette.graph.background),
            ] {
                assert!(contrast(color, background) >= 4.5, "{color:?} {}", contrast(color, background));
            }
        }
    }

    #[test]
    fn the_scale_is_monotonic_in_luminance() {
        for (palette, sign) in [(&LIGHT, -1.0), (&DARK, 1.0)] {
            let steps: Vec<f32> = (0..=16).map(|bits| sign * luminance(palette.heat(bits as f32))).collect();
            assert!(steps.is_sorted(), "{steps:?}");
        }
    }
}
