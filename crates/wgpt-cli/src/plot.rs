//! Shared parts of all pictures: sizes, colours, texts, axes and their ticks.

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of a picture in pixels.
pub const WIDTH: u32 = 1360;
/// Margin around a picture in pixels.
pub const MARGIN: i32 = 16;
/// Colour of secondary text and lines.
pub const GREY: RGBColor = RGBColor(96, 96, 96);
/// Colour of grid lines.
const PALE: RGBColor = RGBColor(222, 222, 222);
/// Colours that colour-blind readers can distinguish: Wong 2011 ("Points of view: Color
/// blindness") without its yellow, plus two more shades.
pub const COLOURS: [RGBColor; 9] = [
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

/// A part of a picture.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `text` with its upper left corner at `at`.
pub fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, colour: RGBColor) -> anyhow::Result<()> {
    write_at(area, text, at, size, colour, Pos::new(HPos::Left, VPos::Top))
}

/// Draws `text` with its anchor point `pos` at `at`.
pub fn write_at(
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

/// Draws the title and a line below it; returns their height in pixels.
pub fn write_title(area: &Area<'_>, title: &str, below: &str) -> anyhow::Result<i32> {
    write(area, title, (MARGIN, 14), 22, BLACK)?;
    write(area, below, (MARGIN, 42), 13, GREY)?;
    Ok(64)
}

/// Returns the axes and grid lines of a chart, with the titles of the axes, ready to be
/// drawn.
pub fn mesh<'a, 'b, 's, X, Y>(
    chart: &'b mut ChartContext<'a, SVGBackend<'s>, Cartesian2d<X, Y>>,
    x_title: &str,
    y_title: &str,
) -> MeshStyle<'a, 'b, X, Y, SVGBackend<'s>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_desc(x_title)
        .y_desc(y_title)
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 12));
    mesh
}

/// Formats an axis tick with no more digits than it needs.
pub fn tick(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        return format!("{value:.0}");
    }
    // Multiples of 0.1 are not exact in binary.
    let text = format!("{value:.6}");
    text.trim_end_matches('0').to_owned()
}

/// Formats a tick of a logarithmic axis: only 1, 2 and 5 of each decade, because more
/// would crowd the axis.
pub fn log_tick(value: f64) -> String {
    let mantissa = value / 10f64.powf(value.log10().floor());
    let shown = [1.0, 2.0, 5.0, 10.0].iter().any(|digit| (mantissa - digit).abs() < 1e-6);
    if shown { tick(value) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_as_many_digits_as_needed() {
        assert_eq!([tick(0.0), tick(0.1 + 0.2), tick(1500.0), tick(2.5)], ["0", "0.3", "1500", "2.5"]);
        assert_eq!(
            [log_tick(0.02), log_tick(1.0), log_tick(30.0), log_tick(500.0)],
            ["0.02", "1", "", "500"]
        );
    }
}
