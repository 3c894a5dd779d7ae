//! Draws tokens per second against the depth and the prompt's length, and memory against
//! the context.

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use wgpt::internals::bench::{mean, standard_deviation};

use super::distinct;
use crate::bench::record_file::{Memory, ModelRow};
use crate::plot::{Area, COLOURS, MARGIN, log_tick, mesh, tick, write, write_title};

const CHART_WIDTH: u32 = 900;
const HEIGHT: u32 = 460;
const LINE_HEIGHT: i32 = 18;
/// Rates that differ by more than this factor are drawn on a logarithmic scale.
const LOG_FROM: f64 = 10.0;

/// One line of a chart.
struct Series {
    name: String,
    /// x, the mean and the standard deviation of the rate.
    points: Vec<(f64, f64, f64)>,
}

/// One chart.
pub struct Panel {
    title: String,
    x_title: &'static str,
    y_title: &'static str,
    place: String,
    series: Vec<Series>,
}

/// Returns the charts that the rows have data for.
pub fn panels(rows: &[ModelRow]) -> Vec<Panel> {
    let is_prefill = |row: &ModelRow| row.n_gen == 0;
    let is_decode = |row: &ModelRow| row.n_prompt == 0;
    let both = |row: &ModelRow| row.n_gen > 0 && row.n_prompt > 0;
    let by_depth = |row: &ModelRow| (format!("{} {}", name(row), kind(row)), row.n_depth as f64);
    let by_length = |row: &ModelRow| {
        let depth = if row.n_depth > 0 { format!(" @ d{}", row.n_depth) } else { String::new() };
        (format!("{}{depth}", name(row)), row.n_prompt as f64)
    };
    let depth = "tokens already in the context";
    let mut panels = vec![
        panel("Decode, tokens per second", depth, rows, is_decode, by_depth),
        panel("Prefill, tokens per second", depth, rows, is_prefill, by_depth),
        panel("Prefill, then decode, tokens per second", depth, rows, both, by_depth),
    ];
    let lengths =
        panel("Prefill by length, tokens per second", "tokens in the prompt", rows, is_prefill, by_length);
    let has_line = |panel: &Panel| {
        panel.series.iter().any(|series| series.points.iter().any(|point| point.0 != series.points[0].0))
    };
    panels.extend([lengths, memory(rows)].into_iter().filter(has_line));
    // Single points are drawn only if there is no line at all.
    let any_line = panels.iter().any(has_line);
    panels.retain(|panel| if any_line { has_line(panel) } else { !panel.series.is_empty() });
    panels
}

fn panel(
    title: &str,
    x_title: &'static str,
    rows: &[ModelRow],
    wanted: impl Fn(&ModelRow) -> bool,
    split: impl Fn(&ModelRow) -> (String, f64),
) -> Panel {
    let rows: Vec<_> = rows.iter().filter(|row| wanted(row) && !row.samples_ts.is_empty()).collect();
    let mut series: Vec<Series> = Vec::new();
    let place = distinct(rows.iter().map(|row| place(row)));
    let several = place.contains("; ");
    for row in &rows {
        let (mut name, x) = split(row);
        if several {
            name += &format!(", {}", row.device);
        }
        let point = (x, mean(&row.samples_ts), standard_deviation(&row.samples_ts));
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    let y_title = "tokens/s, mean and standard deviation";
    Panel { title: title.to_owned(), x_title, y_title, place, series }
}

/// Returns a chart of each model's planned memory: the total and its parts.
fn memory(rows: &[ModelRow]) -> Panel {
    let mut series: Vec<Series> = Vec::new();
    let planned = || rows.iter().filter_map(|row| Some((row, row.memory?)));
    for (row, memory) in planned() {
        let Memory { n_ctx, model_size, plan_bytes, plan_kv_bytes, plan_activations_bytes } = memory;
        let parts = [
            ("total", plan_bytes),
            ("weights", model_size),
            ("KV cache", plan_kv_bytes),
            ("activations", plan_activations_bytes),
        ];
        for (part, bytes) in parts {
            let name = format!("{} {}, cache {}: {part}", row.model, row.dtype, row.kv_dtype);
            let point = (n_ctx as f64, bytes as f64 / f64::from(1 << 20), 0.0);
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) if series.points.contains(&point) => {}
                Some(series) => series.points.push(point),
                None => series.push(Series { name, points: vec![point] }),
            }
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    Panel {
        title: "Memory by context".to_owned(),
        x_title: "positions in the context",
        y_title: "planned memory in MiB",
        place: distinct(planned().map(|(row, _)| place(row))),
        series,
    }
}

fn name(row: &ModelRow) -> String {
    let mode = if row.deterministic { " deterministic" } else { "" };
    format!("{} {}{mode}", row.model, row.dtype)
}

/// Returns the name of the test without its depth.
fn kind(row: &ModelRow) -> &str {
    row.test.split(" @ d").next().unwrap_or_default()
}

fn place(row: &ModelRow) -> String {
    format!("{} ({}, {} {})", row.device, row.backend, row.driver, row.driver_info)
}

impl Panel {
    /// Returns the height of the picture, which leaves space for the list of lines.
    pub fn height(&self) -> u32 {
        HEIGHT.max(100 + self.series.len() as u32 * LINE_HEIGHT as u32)
    }

    /// Draws the chart with its list of lines.
    pub fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        let top = write_title(area, &self.title, &self.place)?;
        let (left, right) = area.split_horizontally(CHART_WIDTH);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let far = points().map(|point| point.0).fold(0.0, f64::max);
        let high = points().map(|point| point.1 + point.2).fold(0.0, f64::max);
        let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
        // A single x still needs an axis.
        let x = -far.max(1.0) * 0.02..far.max(1.0) * 1.05;
        let mut builder = ChartBuilder::on(&left);
        builder
            .margin_top(top + 8)
            .margin_left(MARGIN)
            .margin_right(20)
            .margin_bottom(10)
            .x_label_area_size(46)
            .y_label_area_size(64);
        // On a linear scale, a much slower model's line would coincide with the axis.
        if low > 0.0 && high > LOG_FROM * low {
            let y = (low / 2.0..high * 1.5).log_scale();
            self.fill(&mut builder.build_cartesian_2d(x, y)?, (far, low / 2.0), log_tick)?;
        } else {
            self.fill(&mut builder.build_cartesian_2d(x, 0.0..high.max(1e-9) * 1.1)?, (far, 0.0), tick)?;
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let y = top + 14 + index as i32 * LINE_HEIGHT;
            right.draw(&PathElement::new([(8, y + 7), (26, y + 7)], colour.stroke_width(2)))?;
            right.draw(&Circle::new((17, y + 7), 3, colour.filled()))?;
            write(&right, &series.name, (34, y), 13, colour)?;
        }
        Ok(())
    }

    /// Draws axes and lines; the last x is `far`, and no value is below `floor`.
    fn fill<Y>(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
        (far, floor): (f64, f64),
        y_tick: fn(f64) -> String,
    ) -> anyhow::Result<()>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        mesh(chart, self.x_title, self.y_title)
            .x_label_formatter(&|x| whole(*x, far))
            .y_label_formatter(&|y| y_tick(*y))
            .draw()?;
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let line = series.points.iter().map(|&(x, y, _)| (x, y));
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
            let points = || series.points.iter().copied();
            chart.draw_series(points().map(|(x, y, _)| Circle::new((x, y), 3, colour.filled())))?;
            let spread = points().filter(|point| point.2 > 0.0);
            chart.draw_series(spread.map(|(x, y, deviation)| {
                ErrorBar::new_vertical(x, (y - deviation).max(floor), y, y + deviation, colour.filled(), 6)
            }))?;
        }
        Ok(())
    }
}

/// Formats a number of tokens; empty unless it is whole and at most `far`, the last one
/// measured.
fn whole(x: f64, far: f64) -> String {
    if x.fract() == 0.0 && x <= far.max(0.0) { format!("{x:.0}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::super::record_file::Records;
    use super::super::super::record_file::tests::model_row;
    use super::super::svg;
    use super::*;

    fn rows(values: &[Value]) -> Vec<ModelRow> {
        values.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    #[test]
    fn rows_become_lines_by_depth_and_by_length() {
        let rows = rows(&[
            model_row(0, 8, 512, &[8.0, 10.0]),
            model_row(0, 8, 0, &[12.0, 12.0]),
            model_row(128, 0, 0, &[50.0]),
            model_row(512, 0, 0, &[60.0]),
            model_row(512, 0, 64, &[55.0]),
        ]);
        let panels = panels(&rows);
        let found: Vec<_> = panels
            .iter()
            .map(|panel| {
                (
                    panel.title.as_str(),
                    panel.series.iter().map(|s| (s.name.as_str(), s.points.len())).collect(),
                )
            })
            .collect();
        let want: [(&str, Vec<(&str, usize)>); 3] = [
            ("Decode, tokens per second", vec![("gpt2 f16 tg8", 2)]),
            ("Prefill, tokens per second", vec![("gpt2 f16 pp128", 1), ("gpt2 f16 pp512", 2)]),
            ("Prefill by length, tokens per second", vec![("gpt2 f16", 2), ("gpt2 f16 @ d64", 1)]),
        ];
        assert_eq!(found, want);
        assert_eq!(panels[0].series[0].points[0], (0.0, 12.0, 0.0));
        assert_eq!(panels[0].series[0].points[1].1, 9.0);
    }

    #[test]
    fn batches_are_drawn_as_separate_lines() {
        let batch = |n_depth: usize, samples: &[f64]| {
            let mut row = model_row(0, 8, n_depth, samples);
            let depth = if n_depth > 0 { format!(" @ d{n_depth}") } else { String::new() };
            row["test"] = format!("tg8 b4{depth}").into();
            row
        };
        let rows = rows(&[model_row(0, 8, 0, &[9.0]), batch(0, &[30.0]), batch(64, &[25.0])]);
        let panels = panels(&rows);
        let found: Vec<_> = panels[0].series.iter().map(|s| (s.name.as_str(), s.points.len())).collect();
        assert_eq!((panels.len(), found), (1, vec![("gpt2 f16 tg8", 1), ("gpt2 f16 tg8 b4", 2)]));
    }

    #[test]
    fn memory_is_drawn_if_there_are_several_contexts() {
        let row = |n_ctx: u64, n_depth| {
            let mut row = model_row(0, 8, n_depth, &[9.0]);
            for (field, bytes) in
                [("model_size", 1 << 20), ("plan_bytes", 4 << 20), ("plan_kv_bytes", n_ctx << 20)]
            {
                row[field] = bytes.into();
            }
            row["plan_activations_bytes"] = (1 << 19).into();
            row["n_ctx"] = n_ctx.into();
            row
        };
        assert_eq!(panels(&rows(&[row(2, 0), row(2, 1)])).len(), 1);
        let panels = panels(&rows(&[row(3, 0), row(2, 0), row(2, 1)]));
        let memory = panels.last().unwrap();
        let kv = memory.series.iter().find(|series| series.name.ends_with("KV cache")).unwrap();
        assert_eq!((memory.series.len(), &kv.points[..]), (4, &[(2.0, 2.0, 0.0), (3.0, 3.0, 0.0)][..]));
    }

    #[test]
    fn ticks_are_whole_numbers_of_tokens() {
        assert_eq!(
            [whole(0.0, 0.0), whole(1.0, 0.0), whole(0.5, 9.0), whole(50.0, 512.0)],
            ["0", "", "", "50"]
        );
    }

    #[test]
    fn the_picture_names_axes_adapter_and_lines() {
        let models = rows(&[model_row(0, 8, 0, &[12.0, 12.5]), model_row(0, 8, 100, &[11.0, 11.5])]);
        let text = svg(&Records { models, ..Records::default() }).unwrap();
        for part in [
            "Decode, tokens per second",
            "Card (vulkan, drv 1.0)",
            "tokens already in the context",
            "gpt2 f16 tg8",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(svg(&Records::default()).is_err());
    }
}
