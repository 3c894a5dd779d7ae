//! Special tokens that occur as plain text in messages.

use minijinja::value::{Value, ValueKind};

use super::TemplateInput;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// This block of Unicode contains noncharacters for a program's internal use, so no
/// normal text contains them.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// Returns the input with a mark inside every string that looks like a token of the
/// template. The mark follows the string's first character, so neither the template nor
/// the tokenizer recognises the string as the token. Returns `None` if there is no such
/// string. `text` is the rendering without marks.
pub(super) fn marked(
    input: &TemplateInput,
    text: &str,
    source: &str,
    tokenizer: &Tokenizer,
) -> Result<Option<(char, TemplateInput)>> {
    let added = tokenizer.added_tokens().into_iter().filter(|token| token.text.chars().nth(1).is_some());
    let (special, others): (Vec<_>, Vec<_>) = added.partition(|token| token.special);
    let special: Vec<String> = special.into_iter().map(|token| token.text).collect();
    let turns = others.into_iter().map(|token| token.text);
    let turns = turns.filter(|text| !text.trim().is_empty() && source.contains(text.as_str()));
    let all: Vec<String> = special.iter().cloned().chain(turns).collect();

    let Some(mark) = MARKS.into_iter().find(|&mark| !text.contains(mark)) else {
        return Err(Error::input(
            "the messages contain all of Unicode's noncharacters U+FDD0 to U+FDEF: remove one of them",
        ));
    };
    let mut marker = Marker { mark, changed: false };
    let messages = match input.messages.try_iter() {
        Ok(messages) => messages
            .map(|message| {
                let role = message.get_attr("role").ok();
                let assistant = role.as_ref().and_then(Value::as_str) == Some("assistant");
                marker.value(&message, if assistant { &special } else { &all })
            })
            .collect(),
        Err(_) => input.messages.clone(),
    };
    let more = input.more.iter().map(|(name, value)| (name.clone(), marker.value(value, &all))).collect();
    Ok(marker.changed.then(|| (mark, TemplateInput { messages, more, ..input.clone() })))
}

struct Marker {
    mark: char,
    changed: bool,
}

impl Marker {
    /// Returns the value with marks in all its strings. Map keys stay unmarked, because
    /// they belong to the template.
    fn value(&mut self, value: &Value, tokens: &[String]) -> Value {
        match value.kind() {
            ValueKind::String => match value.as_str().and_then(|text| self.text(text, tokens)) {
                Some(marked) => {
                    self.changed = true;
                    Value::from(marked)
                }
                None => value.clone(),
            },
            ValueKind::Seq => value.try_iter().map_or_else(
                |_| value.clone(),
                |items| items.map(|item| self.value(&item, tokens)).collect(),
            ),
            ValueKind::Map => value.try_iter().map_or_else(
                |_| value.clone(),
                |keys| {
                    let item = |key: &Value| value.get_item(key).unwrap_or_default();
                    Value::from_pairs(keys.map(|key| (key.clone(), self.value(&item(&key), tokens))))
                },
            ),
            _ => value.clone(),
        }
    }

    /// Returns the text with marks; `None` if no mark is needed.
    fn text(&self, text: &str, tokens: &[String]) -> Option<String> {
        let begins = |at: usize| tokens.iter().any(|token| text[at..].starts_with(token.as_str()));
        let mut marked = String::new();
        let mut done = 0;
        for (at, c) in text.char_indices().filter(|&(at, _)| begins(at)) {
            let end = at + c.len_utf8();
            marked.push_str(&text[done..end]);
            marked.push(self.mark);
            done = end;
        }
        (done > 0).then(|| marked + &text[done..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_broken() {
        let tokens = ["<|a|>".to_owned(), "aba".to_owned()];
        let marker = Marker { mark: '\u{fdd0}', changed: false };
        let marked = |text| marker.text(text, &tokens).map(|text| text.replace('\u{fdd0}', "*"));
        assert_eq!(marked("x<|a|>y<|a|>"), Some("x<*|a|>y<*|a|>".into()));
        // Overlapping occurrences too.
        assert_eq!(marked("ababa"), Some("a*ba*ba".into()));
        assert_eq!(marked("<|a |>"), None);
        assert_eq!(marked("日<|a|>日"), Some("日<*|a|>日".into()));
    }
}
