//! Draws kernels on the adapter's roofline (Williams, Waterman and Patterson 2009).

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use wgpt::internals::bench::{Cache, Clock, KernelFigures, KernelRecord};

use super::labels::{LEADER_FROM, Rect, place};
use crate::plot::{Area, COLOURS, GREY, MARGIN, log_tick, mesh, write, write_at, write_title};
use crate::table::number;

/// Width of the chart; the list is to its right.
const CHART_WIDTH: u32 = 900;
const LEAST_HEIGHT: u32 = 760;
const TITLE_HEIGHT: i32 = 64;
/// Height of a line of the list, in pixels.
const LINE_HEIGHT: i32 = 15;
/// Maximum number of characters in a line of variants in the list.
const LINE_CHARS: usize = 64;
const RADIUS: i32 = 4;

/// One case with its variants.
struct Entry<'r> {
    name: String,
    colour: RGBColor,
    /// Each variant with its rows for a warm and a cold cache.
    variants: Vec<(&'r str, Option<&'r KernelFigures>, Option<&'r KernelFigures>)>,
}

/// Returns the cases in the order of the record.
fn entries(record: &KernelRecord) -> Vec<Entry<'_>> {
    let (mut entries, mut ops): (Vec<Entry<'_>>, Vec<&str>) = (Vec::new(), Vec::new());
    for figures in record.kernels.iter().map(|row| &row.figures) {
        let op = ops.iter().position(|op| *op == figures.op).unwrap_or_else(|| {
            ops.push(&figures.op);
            ops.len() - 1
        });
        let name = if figures.model.is_empty() {
            figures.case.clone()
        } else {
            format!("{}: {}", figures.model, figures.case)
        };
        let index = entries.iter().position(|entry| entry.name == name).unwrap_or_else(|| {
            entries.push(Entry { name, colour: COLOURS[op % COLOURS.len()], variants: Vec::new() });
            entries.len() - 1
        });
        let variants = &mut entries[index].variants;
        let place = variants.iter().position(|(name, ..)| *name == figures.variant).unwrap_or_else(|| {
            variants.push((&figures.variant, None, None));
            variants.len() - 1
        });
        match figures.cache {
            Cache::Warm => variants[place].1 = Some(figures),
            Cache::Cold => variants[place].2 = Some(figures),
        }
    }
    entries
}

/// Returns a to z, then a2, b2 and so on.
fn letter(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    if index < 26 { letter.to_string() } else { format!("{letter}{}", index / 26 + 1) }
}

/// Returns the lines of the list below an entry's name.
fn variant_lines(entry: &Entry<'_>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, (name, warm, cold)) in entry.variants.iter().enumerate() {
        let percent =
            |figures: &Option<&KernelFigures>| figures.map(|figures| number(figures.roofline_percent));
        let percents: Vec<String> = [percent(warm), percent(cold)].into_iter().flatten().collect();
        let letter = if entry.variants.len() > 1 { letter(index) + " " } else { String::new() };
        let text = format!("{letter}{name} {} %", percents.join(" | "));
        match lines.last_mut().filter(|line| line.len() + text.len() + 2 <= LINE_CHARS) {
            Some(line) => *line += &format!(", {text}"),
            None => lines.push(text),
        }
    }
    lines
}

/// Returns the height of the picture, which leaves space for the list.
pub fn height(record: &KernelRecord) -> u32 {
    let lines: usize = entries(record).iter().map(|entry| 1 + variant_lines(entry).len()).sum();
    let list = TITLE_HEIGHT + 70 + lines as i32 * LINE_HEIGHT + entries(record).len() as i32 * 5;
    LEAST_HEIGHT.max(list as u32)
}

/// A dot of the chart.
struct Dot {
    /// Operations per byte, and GFLOP/s.
    at: (f64, f64),
    /// The same kernel with cold caches.
    cold: Option<(f64, f64)>,
    /// Whether `at` is for cold caches because there is no row for warm ones.
    hollow: bool,
    label: String,
    colour: RGBColor,
}

/// The ranges of the axes, and the roof.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    /// GB/s and GFLOP/s.
    roof: (f64, f64),
}

impl Frame {
    fn new(record: &KernelRecord) -> Self {
        let roof = (
            record.roofline.bytes_per_second.max(1.0) / 1e9,
            record.roofline.flops_per_second.max(1.0) / 1e9,
        );
        let ridge = roof.1 / roof.0;
        let (mut low, mut high) = (ridge / 10.0, ridge * 10.0);
        for figures in record.kernels.iter().map(|row| &row.figures).filter(|f| f.flops > 0 && f.bytes > 0) {
            let intensity = figures.flops as f64 / figures.bytes as f64;
            (low, high) = (low.min(intensity), high.max(intensity));
        }
        // A margin on the left for kernels without arithmetic and for labels.
        let x = (low / 3.0, high * 2.0);
        let mut frame = Frame { x, y: (0.0, roof.1 * 2.5), roof };
        let least = record.kernels.iter().filter_map(|row| frame.point(&row.figures));
        let least = least.map(|(_, y)| y).fold(frame.roof.0 * x.0, f64::min);
        frame.y.0 = least / 2.0;
        frame
    }

    /// Returns a row's place in the chart. A row without operations is at the left edge.
    /// Its height shows its bandwidth relative to the slope.
    fn point(&self, figures: &KernelFigures) -> Option<(f64, f64)> {
        let gb = figures.gb_per_second.filter(|gb| *gb > 0.0)?;
        let edge = self.x.0 * 1.25;
        let intensity = if figures.flops > 0 { figures.flops as f64 / figures.bytes as f64 } else { edge };
        Some((intensity, gb * intensity))
    }

    fn dots(&self, entries: &[Entry<'_>]) -> Vec<Dot> {
        let mut dots = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            for (index, (_, warm, cold)) in entry.variants.iter().enumerate() {
                let point = |figures: &Option<&KernelFigures>| figures.and_then(|f| self.point(f));
                let (warm, cold) = (point(warm), point(cold));
                let Some(at) = warm.or(cold) else { continue };
                let letter = if entry.variants.len() > 1 { letter(index) } else { String::new() };
                dots.push(Dot {
                    at,
                    cold: cold.filter(|_| warm.is_some()),
                    hollow: warm.is_none(),
                    label: format!("{}{letter}", number + 1),
                    colour: entry.colour,
                });
            }
        }
        dots
    }
}

/// Draws one record.
pub fn draw(area: &Area<'_>, record: &KernelRecord) -> anyhow::Result<()> {
    let entries = entries(record);
    let below = format!(
        "{}; wgpt {}, kernels {}, {}{}",
        record.header.place(),
        record.header.wgpt_version,
        record.header.kernel_hash,
        record.header.test_time,
        if record.complete { "" } else { "; incomplete" }
    );
    write_title(area, "Kernels on the roofline", &below)?;
    let (left, right) = area.split_horizontally(CHART_WIDTH);
    let frame = Frame::new(record);
    let (x, y) = (frame.x.0..frame.x.1, frame.y.0..frame.y.1);
    let mut chart = ChartBuilder::on(&left)
        .margin_top(TITLE_HEIGHT + 8)
        .margin_left(MARGIN)
        .margin_right(20)
        .margin_bottom(10)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    mesh(&mut chart, "arithmetic intensity, FLOP per byte", "GFLOP/s")
        .x_label_formatter(&|x| log_tick(*x))
        .y_label_formatter(&|y| log_tick(*y))
        .draw()?;
    let (gb, gflop) = frame.roof;
    let ridge = gflop / gb;
    let roof = [(frame.x.0, frame.x.0 * gb), (ridge, gflop), (frame.x.1, gflop)];
    chart.draw_series(LineSeries::new(roof, BLACK.stroke_width(2)))?;
    let pixel = |point: (f64, f64)| chart.backend_coord(&point);
    let texts = roof_texts(&frame, record, &pixel);
    let (tops, bottoms) = (pixel((frame.x.0, frame.y.1)), pixel((frame.x.1, frame.y.0)));
    let bounds = Rect { left: tops.0, top: tops.1, width: bottoms.0 - tops.0, height: bottoms.1 - tops.1 };
    for (text, rect) in &texts {
        write(area, text, (rect.left, rect.top), 13, BLACK)?;
    }
    let mut obstacles: Vec<Rect> = texts.into_iter().map(|(_, rect)| rect).collect();
    obstacles.extend(line(pixel(roof[0]), pixel(roof[1])).chain(line(pixel(roof[1]), pixel(roof[2]))));
    draw_dots(area, &frame.dots(&entries), &pixel, obstacles, bounds)?;
    list(&right, &entries, record)
}

/// Returns the labels of the two parts of the roof, with their places in pixels.
fn roof_texts(
    frame: &Frame,
    record: &KernelRecord,
    pixel: &impl Fn((f64, f64)) -> (i32, i32),
) -> Vec<(String, Rect)> {
    let (gb, gflop) = frame.roof;
    let roof = &record.roofline;
    let shape = |probe: &str| roof.best(probe).map_or(String::new(), |row| format!(" ({})", row.shape));
    let rate = |probe: &str| roof.best(probe).map_or(0.0, |row| row.per_second);
    // The faster of the two probes sets the slope.
    let mover = if rate("read") > rate("copy") { "read" } else { "copy" };
    let ceiling = format!("multiply-add {} GFLOP/s{}", number(Some(gflop)), shape("fma"));
    let slope = format!("{mover} {} GB/s{}", number(Some(gb)), shape(mover));
    let width = |text: &str| text.len() as i32 * 7;
    let end = pixel((frame.x.1, gflop));
    let above =
        Rect { left: end.0 - width(&ceiling) - 4, top: end.1 - 20, width: width(&ceiling), height: 15 };
    // Left of the slope, near the ridge, where there are few kernels.
    let middle = (frame.x.0 * (gflop / gb).powi(3)).powf(0.25);
    let (x, y) = pixel((middle, middle * gb));
    let left = (x - width(&slope) - 12).max(pixel((frame.x.0, gflop)).0 + 6);
    let beside = Rect { left, top: y - 15, width: width(&slope), height: 15 };
    vec![(ceiling, above), (slope, beside)]
}

/// Returns a line as small squares, which labels must not cover.
fn line(from: (i32, i32), to: (i32, i32)) -> impl Iterator<Item = Rect> {
    let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()) / 6 + 1;
    (0..=steps).map(move |i| {
        let part = |a: i32, b: i32| a + (b - a) * i / steps;
        Rect::around((part(from.0, to.0), part(from.1, to.1)), 3)
    })
}

fn draw_dots(
    area: &Area<'_>,
    dots: &[Dot],
    pixel: &impl Fn((f64, f64)) -> (i32, i32),
    mut obstacles: Vec<Rect>,
    bounds: Rect,
) -> anyhow::Result<()> {
    let hollow = |at: (i32, i32), colour: RGBColor| -> anyhow::Result<()> {
        area.draw(&Circle::new(at, RADIUS - 1, WHITE.filled()))?;
        area.draw(&Circle::new(at, RADIUS - 1, colour.stroke_width(1)))?;
        Ok(())
    };
    for dot in dots {
        if let Some(cold) = dot.cold {
            let ends = [pixel(dot.at), pixel(cold)];
            area.draw(&PathElement::new(ends, dot.colour.mix(0.5).stroke_width(1)))?;
            obstacles.push(Rect::around(ends[1], RADIUS));
        }
    }
    let centres: Vec<_> = dots.iter().map(|dot| pixel(dot.at)).collect();
    let sizes: Vec<_> = dots.iter().map(|dot| (dot.label.len() as i32 * 7, 11)).collect();
    let placed = place(&centres, &sizes, RADIUS, &obstacles, bounds);
    for (&centre, found) in centres.iter().zip(&placed) {
        if let Some((label, distance)) = found
            && *distance >= LEADER_FROM
        {
            let ends = [centre, label.centre()];
            area.draw(&PathElement::new(ends, GREY.mix(0.35).stroke_width(1)))?;
        }
    }
    for ((dot, &centre), found) in dots.iter().zip(&centres).zip(&placed) {
        if let Some(cold) = dot.cold {
            hollow(pixel(cold), dot.colour)?;
        }
        if dot.hollow {
            hollow(centre, dot.colour)?;
        } else {
            area.draw(&Circle::new(centre, RADIUS, dot.colour.filled()))?;
        }
        let Some((label, _)) = found else { continue };
        // The white rectangle ends a leader line at its label's edge, and hides lines to
        // other labels.
        let corners = [(label.left, label.top), (label.left + label.width, label.top + label.height)];
        area.draw(&Rectangle::new(corners, WHITE.filled()))?;
        let pos = Pos::new(HPos::Center, VPos::Center);
        write_at(area, &dot.label, label.centre(), 12, dot.colour, pos)?;
    }
    Ok(())
}

/// Draws the list that explains the labels.
fn list(area: &Area<'_>, entries: &[Entry<'_>], record: &KernelRecord) -> anyhow::Result<()> {
    let clock = match record.roofline.clock {
        Clock::Gpu => "GPU time",
        Clock::Wall => "wall time minus that of a submit",
    };
    let mut y = TITLE_HEIGHT + 8;
    let text = format!("percent of the roof, warm | cold caches (filled and hollow dots); {clock}");
    write(area, &text, (8, y), 12, GREY)?;
    y += LINE_HEIGHT;
    if record.kernels.iter().any(|row| row.figures.flops == 0) {
        let text = "kernels without arithmetic are at the left edge, placed by bandwidth";
        write(area, text, (8, y), 12, GREY)?;
        y += LINE_HEIGHT;
    }
    y += 6;
    for (index, entry) in entries.iter().enumerate() {
        write(area, &format!("{} {}", index + 1, entry.name), (8, y), 13, entry.colour)?;
        y += LINE_HEIGHT;
        for line in variant_lines(entry) {
            write(area, &line, (22, y), 11, GREY)?;
            y += LINE_HEIGHT;
        }
        y += 5;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::record_file::Records;
    use super::super::super::record_file::tests::kernel_record;
    use super::super::svg;
    use super::*;

    #[test]
    fn every_row_is_a_labelled_dot() {
        let mut rows: Vec<(String, &str, Cache, u64, u64)> = Vec::new();
        for n in 1..=12 {
            for variant in ["per_thread", "workgroup", "subgroup"] {
                for cache in [Cache::Warm, Cache::Cold] {
                    rows.push((format!("gemv n={n}"), variant, cache, 2000 + n, 2000));
                }
            }
        }
        rows.push(("argmax n=9".into(), "workgroup", Cache::Cold, 0, 36));
        let samples: Vec<u64> = (40..60).collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(case, variant, cache, flops, bytes)| {
                (case.as_str(), *variant, *cache, *flops, *bytes, &samples[..])
            })
            .collect();
        let record = kernel_record(&rows);
        let dots = Frame::new(&record).dots(&entries(&record));
        assert_eq!(dots.len(), 37);
        assert_eq!(dots.iter().filter(|dot| dot.cold.is_some()).count(), 36);
        assert_eq!((dots[5].label.as_str(), dots[36].label.as_str(), dots[36].hollow), ("2c", "13", true));
        let text = svg(&Records { kernels: vec![record], ..Records::default() }).unwrap();
        for part in [
            "Kernels on the roofline",
            "Card (vulkan, drv 1.0)",
            "FLOP per byte",
            "GFLOP/s",
            "copy 1000 GB/s",
        ] {
            assert!(text.contains(part), "{part}");
        }
        for dot in &dots {
            assert!(text.contains(&format!("\n{}\n", dot.label)), "{}: no label", dot.label);
        }
        assert!(text.contains("argmax n=9") && text.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn dots_are_placed_by_their_values() {
        // 2000 operations and 1000 bytes in 4 ns: 500 GFLOP/s at 2 operations per byte.
        let record = kernel_record(&[
            ("gemv n=8", "a", Cache::Warm, 2000, 1000, &[4]),
            ("argmax n=8", "a", Cache::Warm, 0, 1000, &[4]),
        ]);
        let frame = Frame::new(&record);
        assert_eq!(frame.point(&record.kernels[0].figures), Some((2.0, 500.0)));
        // It runs at a quarter of the bandwidth, so it is at a quarter of the slope's
        // height.
        let (x, y) = frame.point(&record.kernels[1].figures).unwrap();
        assert!((y / (x * frame.roof.0) - 0.25).abs() < 1e-12);
        assert!(frame.x.0 < x && x < frame.x.1 && frame.y.0 < y && y < frame.y.1);
        assert_eq!([letter(0), letter(25), letter(26)], ["a", "z", "a2"]);
    }
}
