//! Python's string functions that the conventions use. Prompts must be identical to the
//! byte.

/// Python's `str.isspace` for one character: Unicode's white space and the four
/// separators of ASCII, which Rust does not include.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `text.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `text.rstrip()`.
pub(super) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Python's `text.capitalize()`: converts the first character to title case and the rest
/// to lower case.
///
/// Rust has no title case, so this function uses the upper case of the first character.
/// If that consists of several letters, only the first of them stays upper case (`Ss`).
/// This function converts the few digraphs that are a single character (such as U+01C6)
/// to upper case.
pub(super) fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    let mut capital = first.to_uppercase();
    let mut all: String = capital.next().into_iter().collect();
    all.extend(capital.flat_map(char::to_lowercase));
    all + &rest.as_str().to_lowercase()
}

/// Python's `re.sub(r"\[.*?\]", "", text)`: removes each bracket that closes on its own
/// line, with its content. `.` matches any character except a newline.
pub(super) fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        kept.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => rest = &inside[end + 1..],
            _ => {
                kept.push('[');
                rest = inside;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_matches_python() {
        assert_eq!(strip("\u{1c} \u{a0}\ta b\u{3000}\n\u{1f}"), "a b");
        assert_eq!(rstrip(" a \n\u{85}"), " a");
        // The zero width space is not white space.
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
    }

    #[test]
    fn capitalization_matches_python() {
        // Expected: output of Python 3.11.
        for (text, expected) in [
            ("", ""),
            ("he", "He"),
            ("the John Smith", "The john smith"),
            ("élan VITAL", "Élan vital"),
            ("ß", "Ss"),
            ("ﬁn", "Fin"),
            ("1A", "1a"),
            (" he", " he"),
        ] {
            assert_eq!(capitalize(text), expected);
        }
    }

    #[test]
    fn brackets_must_close_on_their_line() {
        // Expected: output of Python 3.11.
        for (text, expected) in [
            ("[header] How [title] to", " How  to"),
            ("a [b", "a [b"),
            ("a ] b", "a ] b"),
            ("[[a] b]", " b]"),
            ("[a\nb] [c]", "[a\nb] "),
            ("[a\n[b] c]", "[a\n c]"),
            ("[]", ""),
        ] {
            assert_eq!(without_brackets(text), expected, "{text:?}");
        }
    }
}
