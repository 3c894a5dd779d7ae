//! The text, including the part that the model wrote and the user has not accepted yet.

use std::ops::Range;

/// A change of the text: `start..old_end` became `start..new_end`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where the change starts.
    pub start: usize,
    /// Where the replaced text ended.
    pub old_end: usize,
    /// Where the new text ends.
    pub new_end: usize,
}

impl Edit {
    /// Returns the shortest change that turns `old` into `new`. If there are several such
    /// insertions, returns the one that ends at `cursor`.
    #[must_use]
    pub fn between(old: &str, new: &str, cursor: usize) -> Self {
        if let Some(grown) = new.len().checked_sub(old.len())
            && let Some(start) = cursor.checked_sub(grown)
            && let (Some(before), Some(behind)) = (new.get(..start), new.get(cursor..))
            && old.get(..start) == Some(before)
            && old.get(start..) == Some(behind)
        {
            return Edit { start, old_end: start, new_end: cursor };
        }
        let shorter = old.len().min(new.len());
        let mut start = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
        while !(old.is_char_boundary(start) && new.is_char_boundary(start)) {
            start -= 1;
        }
        let (old_back, new_back) = (old.bytes().rev(), new.bytes().rev());
        let mut same = old_back.zip(new_back).take(shorter - start).take_while(|(a, b)| a == b).count();
        while !(old.is_char_boundary(old.len() - same) && new.is_char_boundary(new.len() - same)) {
            same -= 1;
        }
        Edit { start, old_end: old.len() - same, new_end: new.len() - same }
    }

    /// Returns where a byte at `position` is after the change. `position` must be at least
    /// `old_end`.
    #[must_use]
    pub fn moved(&self, position: usize) -> usize {
        position - self.old_end + self.new_end
    }
}

/// The effect of a user's edit on a running continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The user typed the continuation's own text, so it goes on.
    Follows,
    /// The text that it continues has changed.
    Breaks,
}

/// The text, with the continuation in it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    text: String,
    ghost: Option<Range<usize>>,
    /// Whether none of the continuation's text has arrived yet.
    fresh: bool,
    revision: u64,
}

impl Draft {
    /// Creates a draft without a continuation.
    #[must_use]
    pub fn new(text: String) -> Self {
        Draft { text, ..Draft::default() }
    }

    /// The text, including the continuation.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The continuation's byte range; empty while nothing has arrived.
    #[must_use]
    pub fn ghost(&self) -> Option<Range<usize>> {
        self.ghost.clone()
    }

    /// The revision of the text, which increases with every change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Accepts the current continuation, if any, and begins a new one at `position`.
    pub fn begin(&mut self, position: usize) {
        self.ghost = Some(position..position);
        self.fresh = true;
    }

    /// Appends a piece of text to the continuation. Returns the change, if there is one.
    pub fn push(&mut self, piece: &str) -> Option<Edit> {
        let ghost = self.ghost.as_mut()?;
        let mut piece = piece;
        if self.fresh && !piece.is_empty() {
            self.fresh = false;
            if self.text[..ghost.start].ends_with([' ', '\n']) {
                piece = piece.strip_prefix(' ').unwrap_or(piece);
            }
        }
        if piece.is_empty() {
            return None;
        }
        let start = ghost.end;
        self.text.insert_str(start, piece);
        ghost.end += piece.len();
        self.revision += 1;
        Some(Edit { start, old_end: start, new_end: start + piece.len() })
    }

    /// Accepts the continuation. Returns the position of its end.
    pub fn accept(&mut self) -> Option<usize> {
        self.ghost.take().map(|ghost| ghost.end)
    }

    /// Removes the continuation from the text.
    pub fn discard(&mut self) -> Option<Edit> {
        let ghost = self.ghost.take()?;
        self.text.replace_range(ghost.clone(), "");
        self.revision += 1;
        Some(Edit { start: ghost.start, old_end: ghost.end, new_end: ghost.start })
    }

    /// Applies the user's edit: the text became `new`, and the cursor is at byte `cursor`,
    /// after the change.
    ///
    /// Typing at the start of the continuation types over it: if the typed text matches, it
    /// replaces the same text in the continuation; otherwise it replaces the whole
    /// continuation. A change inside the continuation or at its end accepts it.
    pub fn edit(&mut self, new: &str, cursor: usize) -> (Vec<Edit>, Effect) {
        let edit = Edit::between(&self.text, new, cursor);
        let before = std::mem::replace(&mut self.text, new.to_owned());
        self.revision += 1;
        let mut edits = vec![edit];
        let Some(ghost) = self.ghost.clone() else { return (edits, Effect::Breaks) };
        let inserted = &new[edit.start..edit.new_end];
        if edit.start == edit.old_end && edit.start == ghost.start && !ghost.is_empty() {
            let follows = before[ghost.clone()].starts_with(inserted);
            let typed_over =
                edit.new_end..if follows { edit.new_end + inserted.len() } else { edit.moved(ghost.end) };
            self.text.replace_range(typed_over.clone(), "");
            edits.push(Edit { start: typed_over.start, old_end: typed_over.end, new_end: typed_over.start });
            if follows {
                self.ghost = Some(edit.new_end..ghost.end);
                return (edits, Effect::Follows);
            }
            self.ghost = None;
        } else if edit.old_end <= ghost.start && !ghost.is_empty() {
            self.ghost = Some(edit.moved(ghost.start)..edit.moved(ghost.end));
        } else if edit.start < ghost.end || edit.start == edit.old_end && edit.start == ghost.end {
            self.ghost = None;
        }
        (edits, Effect::Breaks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str, ghost: &str) -> Draft {
        let mut draft = Draft::new(text.replace('|', ""));
        draft.begin(text.find('|').unwrap());
        draft.push(ghost);
        draft
    }

    /// Returns the text with the continuation in brackets.
    fn shown(draft: &Draft) -> String {
        let mut text = draft.text().to_owned();
        if let Some(ghost) = draft.ghost() {
            text.insert(ghost.end, ']');
            text.insert(ghost.start, '[');
        }
        text
    }

    #[test]
    fn a_continuation_grows_at_the_cursor() {
        let mut draft = draft("A cat| sat.", " and");
        assert_eq!(draft.push(" a dog"), Some(Edit { start: 9, old_end: 9, new_end: 15 }));
        assert_eq!(shown(&draft), "A cat[ and a dog] sat.");
        assert_eq!(draft.accept(), Some(15));
        assert_eq!(shown(&draft), "A cat and a dog sat.");
        assert_eq!(draft.push(" late"), None);
    }

    #[test]
    fn a_space_is_not_doubled() {
        assert_eq!(shown(&draft("A |", " cat")), "A [cat]");
        let mut draft = draft("A |", "");
        draft.push(" cat");
        draft.push(" sat");
        assert_eq!(shown(&draft), "A [cat sat]");
    }

    #[test]
    fn discarding_restores_the_text() {
        let mut draft = draft("日|本", "é🎉");
        assert_eq!(shown(&draft), "日[é🎉]本");
        assert_eq!(draft.discard(), Some(Edit { start: 3, old_end: 9, new_end: 3 }));
        assert_eq!(shown(&draft), "日本");
    }

    #[test]
    fn typing_over_a_continuation_follows_or_replaces_it() {
        let mut followed = draft("A cat|.", "  and");
        let (edits, effect) = followed.edit("A cat   and.", 6);
        assert_eq!((shown(&followed).as_str(), effect), ("A cat [ and].", Effect::Follows));
        assert_eq!(edits.len(), 2);
        let mut replaced = draft("A cat|.", " and");
        let (_, effect) = replaced.edit("A cat, and.", 6);
        assert_eq!((shown(&replaced).as_str(), effect), ("A cat,.", Effect::Breaks));
    }

    #[test]
    fn edits_outside_keep_a_continuation_and_edits_inside_accept_it() {
        let edited = |new: &str, cursor| {
            let mut draft = draft("A cat|.", " and");
            let (_, effect) = draft.edit(new, cursor);
            assert_eq!(effect, Effect::Breaks);
            shown(&draft)
        };
        assert_eq!(edited("The cat and.", 3), "The cat[ and].");
        assert_eq!(edited("A ca and.", 4), "A ca[ and].");
        assert_eq!(edited("A cat and!", 10), "A cat[ and]!");
        assert_eq!(edited("A cat an.", 8), "A cat an.");
        assert_eq!(edited("A cat andy.", 10), "A cat andy.");
        assert_eq!(edited("", 0), "");
    }

    #[test]
    fn changes_are_found_at_character_boundaries() {
        let edit = |start, old_end, new_end| Edit { start, old_end, new_end };
        // é and è share their first byte, 日 and 旦 the first two.
        assert_eq!(Edit::between("aéb", "aèb", 3), edit(1, 3, 3));
        assert_eq!(Edit::between("日", "旦", 3), edit(0, 3, 3));
        // The last bytes of é (C3 A9) and 橩 (E6 A9 A9) are equal.
        assert_eq!(Edit::between("é", "橩", 3), edit(0, 2, 3));
        assert_eq!(Edit::between("aaa", "aa", 1), edit(2, 3, 2));
        assert_eq!(Edit::between("aaa", "aaaa", 2), edit(1, 1, 2));
        assert_eq!(Edit::between("ab", "ab", 1), edit(1, 1, 1));
    }
}
