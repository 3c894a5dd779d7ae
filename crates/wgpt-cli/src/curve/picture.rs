//! A curve as a picture: loss and perplexity, side by side.

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use wgpt::Error;
use wgpt_eval::curve::{Curve, CurvePoint, Diagnosis, Series};

use super::output::{Report, budget_line};
use crate::plot::{Area, COLOURS, GREY, MARGIN, WIDTH, mesh, tick, write, write_at, write_title};

const CHART_HEIGHT: u32 = 420;
const LINE_HEIGHT: i32 = 18;
/// Values that differ by more than this factor are drawn on a logarithmic scale.
const LOG_FROM: f64 = 10.0;
const RADIUS: i32 = 4;
/// Lines with more points are drawn without dots.
const DOTS_MAX: usize = 60;

/// Unit of the x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Axis {
    /// Optimizer steps
    Step,
    /// Tokens trained on
    Tokens,
}

/// One line of a chart: the points with a finite loss.
struct Line {
    name: String,
    colour: RGBColor,
    /// Whether this is the run's log, which is drawn less prominently.
    is_log: bool,
    places: Vec<(f64, f64)>,
}

impl Line {
    fn style(&self) -> ShapeStyle {
        if self.is_log { self.colour.mix(0.5).stroke_width(1) } else { self.colour.stroke_width(2) }
    }

    /// A log of hundreds of steps is drawn without dots.
    fn has_dots(&self) -> bool {
        !self.is_log && self.places.len() <= DOTS_MAX
    }
}

/// The marks on the lines.
#[derive(Default)]
struct Marks {
    /// Where the loss starts to rise or stops being finite.
    from: Option<(f64, &'static str)>,
    /// Spikes that can be drawn, with the step in their label.
    spikes: Vec<(f64, f64, u64, Series)>,
}

/// Draws the picture.
pub fn svg(report: &Report, title: &str, axis: Axis) -> anyhow::Result<String> {
    let lines = lines(report, axis);
    if lines.iter().all(|line| line.places.is_empty()) {
        return Err(Error::Input("there is no finite loss to draw: leave out --plot".into()).into());
    }
    let marks = marks(report, axis);
    let mut below: Vec<String> = report.findings.spikes.iter().map(ToString::to_string).collect();
    below.extend(report.budget.as_ref().map(budget_line));
    // Spikes without a line of text are still marked on the chart.
    below.drain(..below.len().saturating_sub(4));
    let mut text = String::new();
    {
        let top = (64 + below.len() as i32 * LINE_HEIGHT).max(24 + lines.len() as i32 * LINE_HEIGHT);
        let size = (WIDTH, CHART_HEIGHT + top as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        write_title(&root, title, &report.findings.diagnosis.to_string())?;
        for (i, line) in below.iter().enumerate() {
            write(&root, line, (MARGIN, 42 + (i as i32 + 1) * LINE_HEIGHT), 13, GREY)?;
        }
        legend(&root, &lines)?;
        let (_, charts) = root.split_vertically(top);
        let (left, right) = charts.split_horizontally(WIDTH / 2);
        let x_title = match axis {
            Axis::Step => "step",
            Axis::Tokens => "tokens trained on",
        };
        let loss =
            Chart { lines: &lines, marks: &marks, x_title, y_title: "loss, nats per token", of: |loss| loss };
        loss.draw(&root, &left)?;
        Chart { y_title: "perplexity", of: f64::exp, ..loss }.draw(&root, &right)?;
        root.present()?;
    }
    Ok(text)
}

/// Draws the legend at the right, above the charts.
fn legend(root: &Area<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let left = WIDTH as i32 - 230;
    for (i, line) in lines.iter().enumerate() {
        let y = 14 + i as i32 * LINE_HEIGHT;
        root.draw(&PathElement::new([(left, y + 7), (left + 18, y + 7)], line.style()))?;
        if line.has_dots() {
            root.draw(&Circle::new((left + 9, y + 7), RADIUS, line.colour.filled()))?;
        }
        write(root, &line.name, (left + 26, y), 13, line.colour)?;
    }
    Ok(())
}

fn x(curve: &Curve, point: &CurvePoint, axis: Axis) -> Option<f64> {
    match axis {
        Axis::Step => Some(point.step as f64),
        Axis::Tokens => curve.tokens(point).map(|tokens| tokens as f64),
    }
}

/// Returns the lines, the log's first, so that the checkpoints' lines are drawn on top.
fn lines(report: &Report, axis: Axis) -> Vec<Line> {
    let mut lines = Vec::new();
    let log = report.log.iter().map(|log| (log, true));
    for (curve, is_log) in log.chain([(&report.curve, false)]) {
        for (series, colour) in [(Series::Train, COLOURS[0]), (Series::Validation, COLOURS[1])] {
            let finite = |point: &CurvePoint| point.loss(series).filter(|loss| loss.is_finite());
            let places =
                curve.points().iter().filter_map(|point| Some((x(curve, point, axis)?, finite(point)?)));
            let places: Vec<_> = places.collect();
            if !places.is_empty() {
                let name = if is_log {
                    format!("{}, from the log", series.name())
                } else {
                    series.name().to_owned()
                };
                lines.push(Line { name, colour, is_log, places });
            }
        }
    }
    lines
}

fn marks(report: &Report, axis: Axis) -> Marks {
    let curve = &report.curve;
    let at = |step: u64| {
        let point = curve.points().iter().find(|point| point.step == step)?;
        x(curve, point, axis)
    };
    let from = match report.findings.diagnosis {
        Diagnosis::Overfitting { from_step, .. } => Some((from_step, "overfitting")),
        Diagnosis::Rising { from_step, .. } => Some((from_step, "rising")),
        Diagnosis::Diverged { step, .. } => Some((step, "diverged")),
        _ => None,
    };
    let spikes = report.findings.spikes.iter().filter(|spike| spike.loss.is_finite());
    Marks {
        from: from.and_then(|(step, word)| Some((at(step)?, word))),
        spikes: spikes
            .filter_map(|spike| Some((at(spike.step)?, spike.loss, spike.step, spike.series)))
            .collect(),
    }
}

/// One of the two charts.
#[derive(Clone, Copy)]
struct Chart<'a> {
    lines: &'a [Line],
    marks: &'a Marks,
    x_title: &'a str,
    y_title: &'a str,
    /// Maps a loss to the value that the chart draws.
    of: fn(f64) -> f64,
}

impl Chart<'_> {
    fn draw(&self, root: &Area<'_>, area: &Area<'_>) -> anyhow::Result<()> {
        let places = || self.lines.iter().flat_map(|line| &line.places);
        let far = places().map(|place| place.0).fold(1.0, f64::max);
        let ys = || places().map(|place| (self.of)(place.1)).filter(|y| y.is_finite());
        let (low, high) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
        let mut builder = ChartBuilder::on(area);
        builder
            .margin_top(8)
            .margin_left(MARGIN)
            .margin_right(20)
            .margin_bottom(10)
            .x_label_area_size(46)
            .y_label_area_size(64);
        // A single point has no extent.
        let spare = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-6);
        let x = 0.0..far * 1.03;
        if low > 0.0 && high > LOG_FROM * low {
            let (low, high) = (low / 1.15, high * 1.15);
            let y = (low..high).log_scale().with_key_points(log_ticks(low, high));
            self.fill(root, &mut builder.build_cartesian_2d(x, y)?, tick)
        } else {
            let y = low - spare..high + spare;
            self.fill(root, &mut builder.build_cartesian_2d(x, y)?, tick)
        }
    }

    fn fill<Y>(
        &self,
        root: &Area<'_>,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
        y_tick: fn(f64) -> String,
    ) -> anyhow::Result<()>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        mesh(chart, self.x_title, self.y_title)
            .x_labels(8)
            .x_label_formatter(&|x| amount(*x))
            .y_label_formatter(&|y| y_tick(*y))
            .draw()?;
        for line in self.lines {
            let places: Vec<_> = line.places.iter().map(|&(x, y)| (x, (self.of)(y))).collect();
            chart.draw_series(LineSeries::new(places.iter().copied(), line.style()))?;
            if line.has_dots() {
                let dots = places.iter().map(|&place| Circle::new(place, RADIUS, line.colour.filled()));
                chart.draw_series(dots)?;
            }
        }
        self.mark(root, chart)
    }

    /// Draws the marks of the verdict on the whole picture, because a chart's pixel
    /// coordinates refer to the whole picture.
    fn mark<Y>(
        &self,
        root: &Area<'_>,
        chart: &ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
    ) -> anyhow::Result<()>
    where
        Y: Ranged<ValueType = f64>,
    {
        let (_, height) = chart.plotting_area().get_pixel_range();
        let at = |x: f64, loss: f64| chart.backend_coord(&(x, (self.of)(loss)));
        if let Some((x, word)) = self.marks.from {
            let (x, _) = at(x, 1.0);
            let line = [(x, height.start), (x, height.end)];
            root.draw(&PathElement::new(line, GREY.stroke_width(1)))?;
            write(root, word, (x + 5, height.start + 4), 12, GREY)?;
        }
        for &(x, loss, step, series) in &self.marks.spikes {
            let colour = if series == Series::Train { COLOURS[0] } else { COLOURS[1] };
            let place = at(x, loss);
            root.draw(&Circle::new(place, 2 * RADIUS, colour.stroke_width(1)))?;
            let pos = Pos::new(HPos::Left, VPos::Center);
            write_at(
                root,
                &format!("spike at {step}"),
                (place.0 + 2 * RADIUS + 4, place.1),
                12,
                colour,
                pos,
            )?;
        }
        Ok(())
    }
}

/// Returns the ticks of a logarithmic axis: 1, 2 and 5 of each decade, or 1 to 9 if that
/// gives fewer than four. plotters has no ticks below the first power of ten.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let within = |digits: &[f64]| -> Vec<f64> {
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
        all.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let few = within(&[1.0, 2.0, 5.0]);
    if few.len() >= 4 { few } else { within(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) }
}

/// Formats a number of steps or tokens: only whole numbers, with a unit if they are long.
fn amount(x: f64) -> String {
    match x {
        x if x >= 1e9 => format!("{} B", tick(x / 1e9)),
        x if x >= 1e6 => format!("{} M", tick(x / 1e6)),
        x if x >= 1e5 => format!("{} K", tick(x / 1e3)),
        x if x.fract() == 0.0 => tick(x),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use wgpt_eval::curve::parse_log;

    use super::*;

    fn report(rows: &str, log: Option<&str>) -> Report {
        let curve = |rows: &str| parse_log("log", &format!("step,train,validation,tokens\n{rows}")).unwrap();
        Report::new(curve(rows), log.map(curve), None)
    }

    const OVERFIT: &str = "1000,5,5.5,\n2000,3.5,4,\n3000,3,3.75,\n4000,2.5,4.25,\n5000,2,5,5e6\n";

    #[test]
    fn the_picture_names_verdict_axes_lines_and_marks() {
        let text = svg(&report(OVERFIT, Some("1000,5.25,,\n5000,2.5,,")), "Run 7", Axis::Tokens).unwrap();
        for part in [
            "Run 7",
            "overfitting from step 3000 on: ",
            "tokens trained on",
            "loss, nats per token",
            "perplexity",
            "training",
            "validation",
            "training, from the log",
            "2 M",
        ] {
            assert!(text.contains(&format!("\n{part}")), "{part}");
        }
        // Two charts with ten dots each, and two dots in the legend.
        assert_eq!(text.matches("<circle").count(), 22);
        assert!(text.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn only_spikes_that_can_be_drawn_are_marked() {
        let rows: String = (1..=12).map(|i| format!("{i},{},,\n", if i == 6 { 9.0 } else { 3.0 })).collect();
        let text = svg(&report(&rows.replace("9,3,", "9,inf,"), None), "t", Axis::Step).unwrap();
        assert_eq!(text.matches("\nspike at 6\n").count(), 2);
        assert!(text.contains("spike at step 9: training loss inf") && !text.contains("\nspike at 9\n"));
    }

    #[test]
    fn lines_without_drawable_points_are_omitted() {
        let report = report("1,nan,,\n2,,3,\n", None);
        assert_eq!(
            lines(&report, Axis::Step).iter().map(|line| line.name.as_str()).collect::<Vec<_>>(),
            ["validation"]
        );
        assert!(svg(&report, "t", Axis::Step).is_ok());
        let error = svg(&report, "t", Axis::Tokens).unwrap_err().to_string();
        assert_eq!(error, "there is no finite loss to draw: leave out --plot");
    }

    #[test]
    fn every_logarithmic_axis_has_ticks() {
        assert_eq!(log_ticks(12.0, 170.0), [20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0]);
        assert_eq!(log_ticks(4.0, 120.0), [5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn large_amounts_are_abbreviated() {
        let texts = [0.0, 250.0, 2.5, 99_000.0, 150_000.0, 2.5e6, 3e9].map(amount);
        assert_eq!(texts, ["0", "250", "", "99000", "150 K", "2.5 M", "3 B"]);
    }
}
