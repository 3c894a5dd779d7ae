//! The parts of Python that templates use: methods, `trim` and today's date.

use std::borrow::Cow;

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls a Python method of a value. Most methods are minijinja-contrib's. The others are
/// missing there, or their treatment of whitespace or words differs from Python.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, args)
    {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Returns `None` if minijinja-contrib's method is used.
fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "strip" | "lstrip" | "rstrip" => from_args(args).map(|(chars,): (Option<&str>,)| {
            let ends = (name != "rstrip", name != "lstrip");
            Value::from(stripped(text, chars, ends))
        }),
        "split" | "rsplit" => split(text, args, name == "rsplit"),
        "removeprefix" => {
            from_args(args).map(|(prefix,): (&str,)| Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            from_args(args).map(|(suffix,): (&str,)| Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "title" => from_args(args).map(|()| Value::from(title(text))),
        "isspace" => from_args(args).map(|()| Value::from(!text.is_empty() && text.chars().all(is_space))),
        _ => return None,
    })
}

/// `str.isspace`: Unicode whitespace and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn stripped<'t>(text: &'t str, chars: Option<&str>, (start, end): (bool, bool)) -> &'t str {
    let unwanted = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(unwanted) } else { text };
    if end { text.trim_end_matches(unwanted) } else { text }
}

/// The filter `trim`, equal to `str.strip`.
pub(super) fn trim(text: Cow<'_, str>, chars: Option<Cow<'_, str>>) -> String {
    stripped(&text, chars.as_deref(), (true, true)).to_owned()
}

/// `str.split` and `str.rsplit`.
fn split(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split: empty separator")),
        Some(separator) if from_end => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(most.saturating_add(1), separator).collect(),
        None => split_at_blanks(text, most, from_end),
    };
    Ok(parts.into_iter().collect())
}

/// Splits a text into words. After `most` splits, the rest stays whole.
fn split_at_blanks(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = stripped(text, None, (!from_end, from_end));
    while !rest.is_empty() && parts.len() < most {
        let found = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = found else { break };
        let (before, after) = rest.split_at(at);
        let word = if from_end { &after[after.chars().next().map_or(0, char::len_utf8)..] } else { before };
        parts.push(word);
        let left = if from_end { before } else { after };
        rest = stripped(left, None, (!from_end, from_end));
    }
    // The last part keeps the whitespace at its outer end.
    if !rest.is_empty() {
        parts.push(rest);
    }
    if parts.len() <= most {
        parts.retain(|part| !part.is_empty());
    }
    if from_end {
        parts.reverse();
    }
    parts
}

/// `str.title`: the first letter after each non-letter becomes a capital, and the others
/// become lowercase.
fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        within = c.is_alphabetic();
    }
    result
}

/// `datetime.now().strftime(format)`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::ZonedDateTime::now().datetime();
    jiff::fmt::strtime::format(format, now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, args: &[Value], from_end: bool) -> Vec<String> {
        let parts = split(text, args, from_end).unwrap();
        parts.try_iter().unwrap().map(|part| part.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn splits_match_python() {
        let none = Value::from(());
        let most = |n: i64| vec![none.clone(), Value::from(n)];
        assert_eq!(words("  a b  c ", &[], false), ["a", "b", "c"]);
        assert_eq!(words("  a b  c ", &[], true), ["a", "b", "c"]);
        assert_eq!(words("  a b  c ", &most(1), false), ["a", "b  c "]);
        assert_eq!(words("  a b  c ", &most(1), true), ["  a b", "c"]);
        assert_eq!(words("  a b  c ", &most(0), false), ["a b  c "]);
        assert_eq!(words("  a b  c ", &most(-1), false), ["a", "b", "c"]);
        assert_eq!(words("", &[], false), [""; 0]);
        assert_eq!(words("  ", &most(1), true), [""; 0]);
        assert_eq!(words("a", &most(3), true), ["a"]);
        assert_eq!(words("a,,b", &[Value::from(",")], false), ["a", "", "b"]);
        assert_eq!(words("a,,b", &[Value::from(","), Value::from(1)], false), ["a", ",b"]);
        assert_eq!(words("a,,b", &[Value::from(","), Value::from(1)], true), ["a,", "b"]);
        assert!(split("a", &[Value::from("")], false).is_err());
    }

    #[test]
    fn trims_and_titles_match_python() {
        assert_eq!(trim("\u{1c}\u{a0} a\u{85}b\u{3000}\n".into(), None), "a\u{85}b");
        assert_eq!(trim("xaxbx".into(), Some("x".into())), "axb");
        assert_eq!(title("it's 2nd-rate ÉCOLE"), "It'S 2Nd-Rate École");
    }

    #[test]
    fn today_is_written_in_the_requested_format() {
        let before = jiff::ZonedDateTime::now().date();
        let written = strftime_now("%d %b %Y").unwrap();
        let after = jiff::ZonedDateTime::now().date();
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let text = |d: jiff::civil::Date| {
            format!("{:02} {} {}", d.day(), months[usize::try_from(d.month()).unwrap() - 1], d.year())
        };
        assert!([text(before), text(after)].contains(&written), "{written}");
        assert!(strftime_now("%!").unwrap_err().to_string().contains("strftime_now"));
    }
}
