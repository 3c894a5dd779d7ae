//! The filter `tojson` as transformers defines it: Python's `json.dumps`.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize as _;
use serde_json::ser::{CharEscape, Formatter};

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = indent(options.get::<Option<Value>>("indent")?)?;
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([element, key]) => (element.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two strings"));
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    options.assert_all_used()?;
    let mut out = Charged { state, bytes: Vec::new() };
    let python = Python { ensure_ascii, indent, separators, depth: 0, has_value: false };
    let sorted = if sort_keys { sorted(state, value, 0)? } else { value.clone() };
    let failed =
        |reason: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, format!("tojson: {reason}"));
    let written = sorted.serialize(&mut serde_json::Serializer::with_formatter(&mut out, python));
    // If the fuel ran out, report that, and not the write error that it caused.
    state.consume_fuel(0)?;
    written.map_err(|error| failed(&error))?;
    String::from_utf8(out.bytes).map_err(|error| failed(&error))
}

/// Output that costs fuel: 1 unit per write and 1 unit per 64 bytes. An element of a list
/// takes at least one write, so it costs at least as much as one instruction.
struct Charged<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    bytes: Vec<u8>,
}

impl Write for Charged<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.consume_fuel(1 + bytes.len() as u64 / 64).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the indent of one level: a number of spaces, or the given text.
fn indent(value: Option<Value>) -> Result<Option<String>, Error> {
    let Some(value) = value else { return Ok(None) };
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    // A negative number counts as 0, as in Python.
    match value.as_i64().map(|n| n.clamp(0, 64) as usize) {
        Some(n) => Ok(Some(" ".repeat(n))),
        None => Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a number or a string")),
    }
}

/// Returns the value with all maps sorted by key.
fn sorted(state: &State, value: &Value, depth: usize) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: {TOO_DEEP}")));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter()? {
                pairs.push((key.clone(), sorted(state, &value.get_item(&key)?, depth + 1)?));
            }
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(Value::from_pairs(pairs))
        }
        ValueKind::Seq => value.try_iter()?.map(|item| sorted(state, &item, depth + 1)).collect(),
        _ => Ok(value.clone()),
    }
}

/// Maximum nesting depth of values. Python's `json.dumps` fails at about 1000.
const DEPTH_MAX: usize = 500;
const TOO_DEEP: &str = "values are nested too deeply";

/// JSON as `json.dumps` writes it.
struct Python {
    ensure_ascii: bool,
    indent: Option<String>,
    /// The separators between elements, and between key and value.
    separators: (String, String),
    depth: usize,
    has_value: bool,
}

impl Python {
    fn begin<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(io::Error::other(TOO_DEEP));
        }
        self.has_value = false;
        out.write_all(bracket)
    }

    fn end<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.line(out)?;
        }
        self.has_value = true;
        out.write_all(bracket)
    }

    fn element<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.separators.0.as_bytes())?;
        }
        self.line(out)
    }

    fn line<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
    }
}

impl Formatter for Python {
    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.separators.1.as_bytes())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    /// Writes a float like `float.__repr__`: an exponent has a sign and at least two
    /// digits.
    fn write_f64<W: Write + ?Sized>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:?}");
        match text
            .split_once('e')
            .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
        {
            Some((digits, exponent)) => {
                let digits = digits.strip_suffix(".0").unwrap_or(digits);
                let sign = if exponent < 0 { '-' } else { '+' };
                write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
            }
            None => out.write_all(text.as_bytes()),
        }
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return out.write_all(text.as_bytes());
        }
        text.chars().try_for_each(|c| {
            if c.is_ascii() && c != '\u{7f}' {
                return write!(out, "{c}");
            }
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
        })
    }

    fn write_char_escape<W: Write + ?Sized>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(byte) => write!(out, "\\u{byte:04x}"),
            CharEscape::Solidus => out.write_all(b"/"),
            other => {
                let letter = match other {
                    CharEscape::Quote => b'"',
                    CharEscape::ReverseSolidus => b'\\',
                    CharEscape::Backspace => b'b',
                    CharEscape::FormFeed => b'f',
                    CharEscape::LineFeed => b'n',
                    CharEscape::CarriageReturn => b'r',
                    _ => b't',
                };
                out.write_all(&[b'\\', letter])
            }
        }
    }
}
