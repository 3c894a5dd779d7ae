//! `wgpt bench plot`: records as pictures.

mod labels;
mod rates;
mod roofline;

use std::path::PathBuf;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::record_file::Records;
use crate::cli::atomic_file::AtomicFile;
use crate::cli::exit::Outcome;
use rates::Panel;

/// Draw records as SVG: kernels on their roofline, tokens a second by depth, memory
///
/// A record is what `wgpt bench model` or `wgpt bench kernels` printed with
/// --output json, also within a file of benches/record or of gpu_bench.sh. Each
/// kernel record becomes a roofline with every row on it, model rows become
/// lines of tokens a second against the depth, and against the prompt's length
/// where there are several; rows of several contexts (--ctx-size) become lines of
/// the planned memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench plot kernels.json roofline.svg
  wgpt bench plot before.json after.json rates.svg     the rows of both in one picture")]
pub struct Args {
    /// Records, then the picture to write
    #[arg(required = true, num_args = 2.., value_names = ["FILE.json", "OUT.svg"])]
    files: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    // clap demands two files at least.
    let Some((out, inputs)) = args.files.split_last() else { return Ok(Outcome::Done) };
    let mut records = Records::default();
    for input in inputs {
        let Records { models, kernels } = Records::read(input)?;
        records.models.extend(models);
        records.kernels.extend(kernels);
    }
    let picture = svg(&records)?;
    let mut file = AtomicFile::create(out)?;
    file.write(picture.as_bytes())?;
    file.finish()?;
    Ok(Outcome::Done)
}

/// Width of a picture in pixels.
const WIDTH: u32 = 1360;
/// Margin around it.
const MARGIN: i32 = 16;
/// Text and lines that stand back.
const GREY: RGBColor = RGBColor(96, 96, 96);
const PALE: RGBColor = RGBColor(222, 222, 222);
/// Distinct for colour-blind readers too: Wong 2011 ("Points of view: Color
/// blindness"), without its yellow, and two shades more.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(140, 86, 75),
    RGBColor(110, 60, 160),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture of all records, one part below the other.
pub fn svg(records: &Records) -> anyhow::Result<String> {
    let panels = rates::panels(&records.models);
    let rooflines: Vec<_> = records.kernels.iter().filter(|record| !record.kernels.is_empty()).collect();
    let heights = rooflines.iter().map(|record| roofline::height(record));
    let heights: Vec<u32> = heights.chain(panels.iter().map(Panel::height)).collect();
    anyhow::ensure!(!heights.is_empty(), "there is no row to draw");
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, heights.iter().sum())).into_drawing_area();
        root.fill(&WHITE)?;
        let mut rest = root.clone();
        for (index, &height) in heights.iter().enumerate() {
            let (area, below) = rest.split_vertically(height);
            match rooflines.get(index) {
                Some(record) => roofline::draw(&area, record)?,
                None => panels[index - rooflines.len()].draw(&area)?,
            }
            rest = below;
        }
        root.present()?;
    }
    Ok(text)
}

/// Writes `text` with its upper left corner at `at`.
fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, colour: RGBColor) -> anyhow::Result<()> {
    write_at(area, text, at, size, colour, Pos::new(HPos::Left, VPos::Top))
}

fn write_at(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: u32,
    colour: RGBColor,
    pos: Pos,
) -> anyhow::Result<()> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(pos);
    area.draw_text(text, &style, at)?;
    Ok(())
}

/// The title and the line below it; returns the height that they take.
fn write_title(area: &Area<'_>, title: &str, below: &str) -> anyhow::Result<i32> {
    write(area, title, (MARGIN, 14), 22, BLACK)?;
    write(area, below, (MARGIN, 42), 13, GREY)?;
    Ok(64)
}

/// Distinct values in their order, joined.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all.join("; ")
}

/// A tick of an axis: no more digits than it needs.
fn tick(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        return format!("{value:.0}");
    }
    // Steps of 0.1 are not exact in binary.
    let text = format!("{value:.6}");
    text.trim_end_matches('0').to_owned()
}

/// A tick of a logarithmic axis: 1, 2 and 5 of each decade, as more would stand
/// too close.
fn log_tick(value: f64) -> String {
    let mantissa = value / 10f64.powf(value.log10().floor());
    let shown = [1.0, 2.0, 5.0, 10.0].iter().any(|digit| (mantissa - digit).abs() < 1e-6);
    if shown { tick(value) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_the_digits_they_need() {
        assert_eq!([tick(0.0), tick(0.1 + 0.2), tick(1500.0), tick(2.5)], ["0", "0.3", "1500", "2.5"]);
        assert_eq!(
            [log_tick(0.02), log_tick(1.0), log_tick(30.0), log_tick(500.0)],
            ["0.02", "1", "", "500"]
        );
    }
}
