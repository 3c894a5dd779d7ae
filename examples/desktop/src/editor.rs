//! The text editor: keys, colours of the text, and the tooltip under the pointer.

use std::ops::Range;
use std::sync::Arc;

use eframe::egui::text::{ByteIndex, CCursor, CCursorRange, CharIndex, LayoutJob, LayoutSection, TextFormat};
use eframe::egui::text_edit::TextEditOutput;
use eframe::egui::{
    self, Color32, EventFilter, FontId, Galley, Id, Key, Modifiers, Pos2, Stroke, TextBuffer, TextEdit,
    Tooltip, Ui, vec2,
};

use crate::draft::{Draft, Edit, Effect};
use crate::heat::Heat;
use crate::theme::{LINE_HEIGHT, Palette, TEXT_SIZE};

const HINT: &str = "Write here. Ctrl+Enter lets the model go on at the cursor.";

/// Distance from the text to the rule that marks a continuation.
const RULE_DISTANCE: f32 = 14.0;

/// An action that the user requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Continue the text at the cursor.
    Continue,
    /// Stop the continuation, or discard it.
    Escape,
    /// Accept the continuation.
    Accept,
    /// The text changed.
    Edited(Effect),
}

/// The draft and its editor widget.
pub struct Editor {
    /// The text.
    pub draft: Draft,
    /// The surprise of the text's pieces, as far as known.
    pub heat: Heat,
    /// The widget's text. The draft takes over its changes.
    buffer: String,
    /// The cursor as a byte position; the end of a selection.
    cursor: usize,
    /// The byte position to move the cursor to before the next frame.
    set_cursor: Option<usize>,
    /// Whether to scroll to the end of the continuation.
    follow: bool,
    id: Id,
}

impl Editor {
    /// Creates an editor with the cursor at the end of the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Editor {
            cursor: text.len(),
            set_cursor: Some(text.len()),
            buffer: text.clone(),
            draft: Draft::new(text),
            heat: Heat::default(),
            follow: false,
            id: Id::unique("wgpt-desktop text"),
        }
    }

    /// Begins a continuation at the cursor. Returns the text before it.
    pub fn begin(&mut self) -> String {
        self.accept();
        self.draft.begin(self.cursor);
        self.draft.text()[..self.cursor].to_owned()
    }

    /// Appends a piece to the continuation.
    pub fn push(&mut self, piece: &str) {
        if let Some(edit) = self.draft.push(piece) {
            self.changed(edit);
            self.follow = true;
        }
    }

    /// Accepts the continuation and moves the cursor to its end.
    pub fn accept(&mut self) {
        if let Some(end) = self.draft.accept() {
            self.set_cursor = Some(end);
            self.cursor = end;
        }
    }

    /// Removes the continuation from the text.
    pub fn discard(&mut self) {
        if let Some(edit) = self.draft.discard() {
            self.changed(edit);
        }
    }

    /// Whether there is a continuation to accept.
    #[must_use]
    pub fn has_ghost(&self) -> bool {
        self.draft.ghost().is_some_and(|ghost| !ghost.is_empty())
    }

    /// Called after the program changed the text. A cursor after the change moves with its
    /// text.
    fn changed(&mut self, edit: Edit) {
        self.heat.edited(edit);
        self.buffer.clear();
        self.buffer.push_str(self.draft.text());
        if self.cursor > edit.start {
            let moved = if self.cursor >= edit.old_end { edit.moved(self.cursor) } else { edit.start };
            self.set_cursor = Some(moved);
            self.cursor = moved;
        }
    }

    /// Shows the editor, with a height of at least `height`.
    pub fn show(&mut self, ui: &mut Ui, height: f32, palette: &Palette, show_heat: bool) -> Vec<Action> {
        let mut actions = self.keys(ui);
        let Editor { draft, heat, buffer, .. } = self;
        let heat = Some(&*heat).filter(|_| show_heat);
        let mut layouter = |ui: &Ui, text: &dyn TextBuffer, width: f32| -> Arc<Galley> {
            // While the widget handles keys, its text is ahead of the draft. The marks do
            // not fit it, so this pass draws the text plain.
            let fits = text.as_str() == draft.text();
            let job =
                layout(text.as_str(), fits.then(|| draft.ghost()).flatten(), heat.filter(|_| fits), palette);
            ui.fonts_mut(|fonts| {
                fonts.layout_job(LayoutJob { wrap: egui::text::TextWrapping::wrap_at_width(width), ..job })
            })
        };
        let filter = EventFilter { tab: false, escape: true, horizontal_arrows: true, vertical_arrows: true };
        let output = TextEdit::multiline(buffer)
            .id(self.id)
            .frame(egui::Frame::NONE)
            .margin(egui::Margin::ZERO)
            .desired_width(f32::INFINITY)
            .min_size(vec2(0.0, height))
            .hint_text(egui::RichText::new(HINT).size(TEXT_SIZE).color(palette.quiet))
            .event_filter(EventFilter { tab: draft.ghost().is_some(), ..filter })
            .layouter(&mut layouter)
            .show(ui);
        if let Some(range) = output.cursor_range {
            let end = range.sorted_cursors()[1].index;
            self.cursor = self.buffer.byte_index_from_char_index(end).0;
        }
        if self.buffer != self.draft.text() {
            let (edits, effect) = self.draft.edit(&self.buffer, self.cursor);
            for edit in edits {
                self.heat.edited(edit);
            }
            self.buffer.clear();
            self.buffer.push_str(self.draft.text());
            self.cursor = self.cursor.min(self.buffer.len());
            actions.push(Action::Edited(effect));
            ui.ctx().request_repaint();
        }
        self.mark(ui, &output, palette);
        self.follow(ui, &output);
        if show_heat {
            self.hover(ui, &output, palette);
        }
        actions
    }

    /// Handles the keys that the widget must not receive, and moves the cursor if
    /// requested.
    fn keys(&mut self, ui: &Ui) -> Vec<Action> {
        let pressed = |modifiers, key| ui.input_mut(|input| input.consume_key(modifiers, key));
        let mut actions = Vec::new();
        if pressed(Modifiers::COMMAND, Key::Enter) {
            actions.push(Action::Continue);
        }
        if pressed(Modifiers::NONE, Key::Escape) {
            actions.push(Action::Escape);
        }
        if self.has_ghost() && pressed(Modifiers::NONE, Key::Tab) {
            actions.push(Action::Accept);
        }
        if let Some(byte) = self.set_cursor.take() {
            let mut state = TextEdit::load_state(ui.ctx(), self.id).unwrap_or_default();
            let index = self.buffer[..byte].chars().count();
            state.cursor.set_char_range(Some(CCursorRange::one(CCursor::new(index))));
            TextEdit::store_state(ui.ctx(), self.id, state);
        }
        actions
    }

    /// Draws a rule next to the lines of the continuation.
    fn mark(&self, ui: &Ui, output: &TextEditOutput, palette: &Palette) {
        let Some(ghost) = self.draft.ghost().filter(|ghost| !ghost.is_empty()) else { return };
        let row = |byte: usize| {
            let index = self.buffer[..byte].chars().count();
            output.galley.pos_from_cursor(CCursor::new(index)).y_range()
        };
        let lines = row(ghost.start).min + 3.0..=row(ghost.end).max - 3.0;
        let offset = output.galley_pos;
        let rule = offset.y + lines.start()..=offset.y + lines.end();
        ui.painter().vline(offset.x - RULE_DISTANCE, rule, Stroke::new(2.0, palette.ghost));
    }

    /// Keeps the end of a growing continuation visible.
    fn follow(&mut self, ui: &Ui, output: &TextEditOutput) {
        if std::mem::take(&mut self.follow)
            && let Some(ghost) = self.draft.ghost()
        {
            let index = self.draft.text()[..ghost.end].chars().count();
            let end = output.galley.pos_from_cursor(CCursor::new(index));
            ui.scroll_to_rect(
                end.translate(output.galley_pos.to_vec2()).expand2(vec2(0.0, LINE_HEIGHT)),
                None,
            );
        }
    }

    /// Shows the model's rating of the token under the pointer.
    fn hover(&self, ui: &Ui, output: &TextEditOutput, palette: &Palette) {
        let Some(pointer) = output.response.response.hover_pos() else { return };
        let Some(index) = char_at(&output.galley, pointer - output.galley_pos.to_vec2()) else { return };
        let byte = self.buffer.byte_index_from_char_index(index).0;
        if let Some(cell) = self.heat.at(byte) {
            let context = ui.ctx().clone();
            Tooltip::always_open(context, ui.layer_id(), self.id.with("heat"), egui::PopupAnchor::Pointer)
                .gap(14.0)
                .show(|ui| crate::tooltip::show(ui, cell, palette));
        }
    }

    /// Gives the editor the keyboard focus.
    pub fn focus(&self, ui: &Ui) {
        ui.memory_mut(|memory| memory.request_focus(self.id));
    }
}

/// The character at a point of the galley; `None` if there is none.
fn char_at(galley: &Galley, point: Pos2) -> Option<CharIndex> {
    let mut first = 0;
    for row in &galley.rows {
        if row.rect().contains(point) {
            let x = point.x - row.pos.x;
            let glyph = row.glyphs.iter().position(|glyph| (glyph.pos.x..glyph.max_x()).contains(&x))?;
            return Some(CharIndex(first + glyph));
        }
        first += row.char_count_including_newline().0;
    }
    None
}

/// Divides the text into sections: plain text, the continuation, and one colour per cell.
fn layout(text: &str, ghost: Option<Range<usize>>, heat: Option<&Heat>, palette: &Palette) -> LayoutJob {
    let mut cuts = vec![0, text.len()];
    cuts.extend(ghost.iter().flat_map(|ghost| [ghost.start, ghost.end]));
    cuts.extend(
        heat.iter().flat_map(|heat| heat.cells()).flat_map(|cell| [cell.range.start, cell.range.end]),
    );
    cuts.sort_unstable();
    cuts.dedup();
    let mut job = LayoutJob { text: text.to_owned(), keep_trailing_whitespace: true, ..LayoutJob::default() };
    job.sections = cuts
        .windows(2)
        .map(|pair| {
            let range = pair[0]..pair[1];
            let in_ghost = ghost.as_ref().is_some_and(|ghost| ghost.contains(&range.start));
            let bits = heat.and_then(|heat| heat.at(range.start)).and_then(crate::heat::Cell::bits);
            LayoutSection {
                leading_space: 0.0,
                byte_range: ByteIndex(range.start)..ByteIndex(range.end),
                format: format(in_ghost, bits, palette),
            }
        })
        .collect();
    job
}

/// On the colours of the scale, a continuation is drawn in the colour of the text. Its own
/// colour would not be readable on all of them, and the rule next to it also marks it.
fn format(in_ghost: bool, bits: Option<f32>, palette: &Palette) -> TextFormat {
    TextFormat {
        font_id: FontId::proportional(TEXT_SIZE),
        line_height: Some(LINE_HEIGHT),
        color: if in_ghost && bits.is_none() { palette.ghost } else { palette.ink },
        background: bits.map_or(Color32::TRANSPARENT, |bits| palette.heat(bits)),
        expand_bg: 0.0,
        ..TextFormat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::{Rating, Score};

    #[test]
    fn sections_cover_the_text_without_gaps() {
        let text = "Tom saw 日本.";
        let score = Some(Score { logprob: -1.0, rank: 0, best: Vec::new(), best_logprob: -1.0 });
        let ratings = ["Tom", " saw", " ", "日本", "."]
            .map(|token| Rating { bytes: token.as_bytes().to_vec(), score: score.clone() });
        let heat = Heat::new(text, ratings.into()).unwrap();
        let visuals = egui::Visuals::dark();
        for ghost in [None, Some(5..11), Some(3..3), Some(0..text.len())] {
            for heat in [None, Some(&heat)] {
                let job = layout(text, ghost.clone(), heat, Palette::of(&visuals));
                job.debug_sanity_check();
                let drawn: usize =
                    job.sections.iter().map(|s| s.byte_range.end.0 - s.byte_range.start.0).sum();
                assert_eq!(drawn, text.len());
            }
        }
        assert!(layout("", None, None, Palette::of(&visuals)).sections.is_empty());
    }
}
