//! Python's string functions as the conventions use them: prompts must agree to
//! the byte.

/// `str.isspace` of one character: Unicode's white space and the four separators
/// of ASCII, which Rust does not count.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.rstrip()`
pub(super) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `text.capitalize()`: the first character a capital, the others small.
///
/// Python takes the title case of the first one, which Rust does not know. It is
/// the capital, of several letters the first alone (`Ss`); the few digraphs that
/// are one character (U+01C6 and the like) keep their capital here.
pub(super) fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    let mut capital = first.to_uppercase();
    let mut all: String = capital.next().into_iter().collect();
    all.extend(capital.flat_map(char::to_lowercase));
    all + &rest.as_str().to_lowercase()
}

/// `re.sub(r"\[.*?\]", "", text)`: a bracket that closes on its own line is
/// removed with what it holds, since `.` is anything but a newline.
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
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1c} \u{a0}\ta b\u{3000}\n\u{1f}"), "a b");
        assert_eq!(rstrip(" a \n\u{85}"), " a");
        // The zero width space is none.
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
    }

    #[test]
    fn capitals_are_pythons() {
        // As Python 3.11 prints them.
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
    fn brackets_close_on_their_line() {
        // As Python 3.11 prints them.
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
