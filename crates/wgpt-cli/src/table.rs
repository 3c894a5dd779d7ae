//! Tables of results: markdown with aligned columns, and CSV.

use serde::Serialize;

/// The columns of a markdown table.
pub struct Table<const N: usize> {
    titles: [&'static str; N],
    widths: [usize; N],
    /// Whether the column holds numbers.
    right: [bool; N],
}

impl<const N: usize> Table<N> {
    /// Creates a table from titles and minimum widths in characters. A column is at least
    /// as wide as its title; a longer cell overflows it. A negative width marks a column
    /// of numbers, which are right-aligned.
    pub fn new(columns: [(&'static str, i32); N]) -> Self {
        let titles = columns.map(|(title, _)| title);
        let widths = columns.map(|(title, width)| title.chars().count().max(width.unsigned_abs() as usize));
        Table { titles, widths, right: columns.map(|(_, width)| width < 0) }
    }

    /// Formats the two lines of the header.
    pub fn head(&self) -> String {
        let mut rule = String::from("|");
        for (&width, right) in self.widths.iter().zip(self.right) {
            rule += &if right {
                format!(" {}: |", "-".repeat(width - 1))
            } else {
                format!(" {} |", "-".repeat(width))
            };
        }
        format!("{}{rule}\n", self.row(&self.titles.map(String::from)))
    }

    /// Formats a row.
    pub fn row(&self, cells: &[String; N]) -> String {
        let mut line = String::from("|");
        for ((cell, &width), right) in cells.iter().zip(&self.widths).zip(self.right) {
            line += &if right { format!(" {cell:>width$} |") } else { format!(" {cell:<width$} |") };
        }
        line + "\n"
    }
}

/// Formats a row as a line of CSV; the first one follows a header with the field names.
pub fn csv_line(row: &impl Serialize, first: bool) -> anyhow::Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(first).from_writer(Vec::new());
    writer.serialize(row)?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Formats nanoseconds with a unit and three or four digits.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "us"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{value:.*} {unit}", digits(value))
}

/// Formats a number with three or four digits; "-" for `None`.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", digits(value)))
}

fn digits(value: f64) -> usize {
    // A value that would round up to one more digit gets one decimal fewer.
    match value.abs() {
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let table = Table::new([("name", 6), ("n", -3)]);
        let text = table.head() + &table.row(&["ab".into(), "12".into()]);
        assert_eq!(text, "| name   |   n |\n| ------ | --: |\n| ab     |  12 |\n");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [time(12.0), time(1234.0), time(56_789_000.0), time(2e9)],
            ["12.0 ns", "1.23 us", "56.8 ms", "2.00 s"]
        );
        assert_eq!(
            [number(None), number(Some(0.123)), number(Some(45.67)), number(Some(9.996))],
            ["-", "0.12", "45.7", "10.0"]
        );
    }

    #[test]
    fn csv_has_one_header_line() {
        #[derive(Serialize)]
        struct Row {
            a: u32,
            b: Option<f64>,
        }
        #[derive(Serialize)]
        struct More {
            c: &'static str,
        }
        let row = (Row { a: 1, b: None }, More { c: "x,y" });
        assert_eq!(csv_line(&row, true).unwrap(), "a,b,c\n1,,\"x,y\"\n");
        assert_eq!(csv_line(&row, false).unwrap(), "1,,\"x,y\"\n");
    }
}
