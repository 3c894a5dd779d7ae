//! The one tag that transformers adds to Jinja, and the length limit for tags.

use minijinja::{Error, ErrorKind};

/// Maximum length of a tag in bytes, without string literals. Published templates stay
/// below
/// 300. The compile time of a tag grows with the square of its length.
const TAG_BYTES_MAX: usize = 4096;

/// Replaces `{% generation %} ... {% endgeneration %}`, which encloses the model's own
/// text, with a `{% with %}` block. Both tags give their body its own scope. Comments and
/// `{% raw %}` blocks keep their content, and line numbers do not change.
///
/// # Errors
/// A syntax error for a tag of more than [`TAG_BYTES_MAX`] bytes.
pub(super) fn without_generation_tags(source: &str) -> Result<String, Error> {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some(at) = next_tag(rest) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match &rest[..2] {
            // In a raw block, only the tag that ends it has a meaning.
            "{#" | "{{" if raw => 2,
            "{#" => rest.find("#}").map_or(rest.len(), |end| end + 2),
            pair => {
                let (len, code_bytes) = tag_len(rest, if pair == "{{" { "}}" } else { "%}" });
                if code_bytes > TAG_BYTES_MAX {
                    let line = source[..source.len() - rest.len()].matches('\n').count() + 1;
                    let message =
                        format!("the tag that begins on line {line} has more than {TAG_BYTES_MAX} bytes");
                    return Err(Error::new(ErrorKind::SyntaxError, message));
                }
                len
            }
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        let name = tag_name(tag);
        let replaced = match name {
            "generation" if !raw => Some("with"),
            "endgeneration" if !raw => Some("endwith"),
            _ => None,
        };
        raw = name == "raw" || raw && name != "endraw";
        match replaced {
            Some(new) => text.push_str(&tag.replacen(name, new, 1)),
            None => text.push_str(tag),
        }
    }
    Ok(text + rest)
}

/// Returns the position at which the next tag, expression or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let begins = |pair: &[u8]| pair[0] == b'{' && matches!(pair[1], b'%' | b'#' | b'{');
    text.as_bytes().windows(2).position(begins)
}

/// Returns the name of a block tag; empty for anything else.
fn tag_name(tag: &str) -> &str {
    let Some(inner) = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")) else { return "" };
    let inner = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
    inner.split_whitespace().next().unwrap_or("")
}

/// Returns the length of a tag, including its end, and its number of bytes outside string
/// literals. String literals may contain the end marker.
fn tag_len(text: &str, end: &str) -> (usize, usize) {
    let mut quote = None;
    let mut escaped = false;
    let mut code_bytes = 0;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            None if text[at..].starts_with(end) => return (at + end.len(), code_bytes),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open && !escaped => quote = None,
            None => code_bytes += c.len_utf8(),
            Some(_) => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    (text.len(), code_bytes)
}

#[cfg(test)]
mod tests {
    use super::{TAG_BYTES_MAX, without_generation_tags};

    #[test]
    fn only_generation_tags_are_replaced() {
        for (source, expected) in [
            ("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c"),
            ("{%- generation -%}\nb{%-endgeneration-%}", "{%- with -%}\nb{%-endwith-%}"),
            ("{# {% generation %} #}{% if x %}", "{# {% generation %} #}{% if x %}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            (
                "{% set a = '%}' ~ \"\\\"{% generation %}\" %}b",
                "{% set a = '%}' ~ \"\\\"{% generation %}\" %}b",
            ),
            (
                "{% raw %}{% generation %}{{{# {% endraw %}{% generation %}",
                "{% raw %}{% generation %}{{{# {% endraw %}{% with %}",
            ),
            ("{% generations %}{% if generation %}", "{% generations %}{% if generation %}"),
            ("{% generation", "{% generation"),
            ("{# {% generation %}", "{# {% generation %}"),
            ("日本{% generation %}語", "日本{% with %}語"),
        ] {
            assert_eq!(without_generation_tags(source).unwrap(), expected);
        }
    }

    #[test]
    fn a_tag_has_a_maximum_length() {
        let tag = |code: usize| format!("a\n{{{{ '{}'{} }}}}", "x".repeat(9999), " ".repeat(code));
        assert!(without_generation_tags(&tag(TAG_BYTES_MAX - 2)).is_ok());
        let error = without_generation_tags(&tag(TAG_BYTES_MAX - 1)).unwrap_err();
        assert!(error.to_string().contains("begins on line 2"), "{error}");
    }
}
