//! stdout and stderr, and numbers formatted for people.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use wgpt::Error;

use super::flags::with_flags;

/// The reader of stdout has closed it; the program ends without an error message.
#[derive(Debug)]
pub struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output was closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Writes `text` to stdout and flushes it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|source| {
        if source.kind() == ErrorKind::BrokenPipe {
            anyhow::Error::new(OutputClosed)
        } else {
            anyhow::Error::new(Error::Io { action: "write", path: "stdout".into(), source })
        }
    })
}

/// Writes `value` to stdout as indented JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes a line to stderr. A failed write is ignored: the result matters more.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a message of the library to stderr, with the program's flags for its options.
pub fn note_message(message: &str) {
    note(&with_flags(message));
}

/// Formats a size in bytes with a binary unit.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

/// Formats a duration with a suitable unit.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} us", s * 1e6),
    }
}

/// Formats a number of parameters as llama-bench does.
pub fn count(n: u64) -> String {
    let value = n as f64;
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.2} K", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", value / 1e6),
        _ => format!("{:.2} B", value / 1e9),
    }
}

/// Formats a number of things, such as "1 token" or "2 tokens".
pub fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Formats a rate in tokens per second; "-" if nothing was measured.
pub fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// Returns the value unless it is infinite or NaN, which JSON cannot express.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Formats lines of a label and a value, with the values aligned.
pub fn labelled(rows: &[(&str, String)], indent: usize) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    rows.iter().map(|(label, value)| format!("{:indent$}{label:width$}  {value}\n", "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(128 << 20), "128.00 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.00 TiB");
        assert_eq!(duration(12.345), "12.35 s");
        assert_eq!(duration(0.0123), "12.30 ms");
        assert_eq!(duration(4.5e-7), "0.45 us");
        assert_eq!(count(999), "999");
        assert_eq!(count(172_288), "172.29 K");
        assert_eq!(count(124_439_808), "124.44 M");
        assert_eq!(count(1_557_611_200), "1.56 B");
        assert_eq!(rate(None), "-");
        assert_eq!(rate(Some(12.34)), "12.3");
        assert_eq!(finite(f64::INFINITY), None);
    }

    #[test]
    fn labels_are_aligned() {
        assert_eq!(labelled(&[("a", "1".into()), ("long", "2".into())], 2), "  a     1\n  long  2\n");
    }
}
