//! Frame times: recording, statistics and the graph.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eframe::egui::{self, Color32, Pos2, Rect, Stroke, Ui, vec2};
use serde::Serialize;

/// Number of frames in the graph.
const SHOWN: usize = 160;
/// Duration of a frame on a 60 Hz display.
pub const REFRESH: Duration = Duration::from_micros(16_667);
/// Duration of a frame on a software adapter while text arrives. On two cores such an
/// adapter takes 20 to 30 ms to draw this window. Without pauses between frames, the engine
/// would get little time.
pub const SOFTWARE_REFRESH: Duration = Duration::from_millis(50);

/// Times of one frame, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// From the start of the previous frame to the start of this one.
    pub interval_ms: f32,
    /// The interface's own work in the previous frame: layout, tessellation and submit,
    /// without waiting for the display.
    pub busy_ms: f32,
    /// Whether a prompt was being read.
    pub prefill: bool,
}

/// The frames in the graph, and during a measurement all frames.
#[derive(Debug)]
pub struct FrameLog {
    /// The intended time between frames.
    pub refresh: Duration,
    last: Option<Instant>,
    shown: VecDeque<Frame>,
    recorded: Option<Vec<Frame>>,
}

/// Quantiles of one of a frame's times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50_ms: f32,
    /// 95th percentile.
    pub p95_ms: f32,
    /// 99th percentile.
    pub p99_ms: f32,
    /// The longest.
    pub max_ms: f32,
}

impl Quantiles {
    /// Computes quantiles by nearest rank; `None` without values.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f32>) -> Option<Self> {
        let mut sorted: Vec<f32> = values.collect();
        sorted.sort_by(f32::total_cmp);
        let rank = |q: f64| {
            let index = ((q * sorted.len() as f64).ceil() as usize).max(1) - 1;
            sorted.get(index).copied()
        };
        Some(Quantiles { p50_ms: rank(0.5)?, p95_ms: rank(0.95)?, p99_ms: rank(0.99)?, max_ms: rank(1.0)? })
    }
}

impl FrameLog {
    /// Creates a log without frames.
    #[must_use]
    pub fn new(refresh: Duration) -> Self {
        FrameLog { refresh, last: None, shown: VecDeque::new(), recorded: None }
    }

    /// Records the start of a frame. Its interval counts only if it directly follows
    /// another frame (`continuous`). A window without changes draws no frames, and such a
    /// pause is not a frame time.
    pub fn begin(&mut self, now: Instant, busy_seconds: Option<f32>, continuous: bool, prefill: bool) {
        if let (Some(last), true) = (self.last, continuous) {
            let interval_ms = now.duration_since(last).as_secs_f32() * 1e3;
            let frame = Frame { interval_ms, busy_ms: busy_seconds.unwrap_or(0.0) * 1e3, prefill };
            if self.shown.len() == SHOWN {
                self.shown.pop_front();
            }
            self.shown.push_back(frame);
            if let Some(recorded) = &mut self.recorded {
                recorded.push(frame);
            }
        }
        self.last = Some(now);
    }

    /// Starts keeping every frame.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// Returns the frames since [`FrameLog::record`] and stops keeping them.
    pub fn take_recorded(&mut self) -> Vec<Frame> {
        self.recorded.take().unwrap_or_default()
    }

    /// Quantiles of the intervals in the graph.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        Quantiles::of(self.shown.iter().map(|frame| frame.interval_ms))
    }

    /// Draws the newest frames as bars, with the interface's own work as the darker lower
    /// part, and a line at the intended refresh time.
    pub fn graph(&self, ui: &mut Ui, colors: GraphColors) -> egui::Response {
        let size = vec2(ui.available_width(), 72.0);
        let (response, painter) = ui.allocate_painter(size, egui::Sense::hover());
        let rect = response.rect;
        painter.rect_filled(rect, 3.0, colors.background);
        // The scale suits the usual frames; a single long frame is cut off at the top.
        let usual = self.quantiles().map_or(0.0, |quantiles| quantiles.p95_ms);
        let top_ms =
            [25.0, 50.0, 100.0, 200.0, 400.0].into_iter().find(|&ms| usual <= 0.8 * ms).unwrap_or(800.0);
        let refresh_ms = self.refresh.as_secs_f32() * 1e3;
        let plot = rect.shrink2(vec2(4.0, 4.0));
        let y = |ms: f32| plot.bottom() - (ms / top_ms).min(1.0) * plot.height();
        let width = plot.width() / SHOWN as f32;
        let first = plot.right() - width * self.shown.len() as f32;
        for (i, frame) in self.shown.iter().enumerate() {
            let x = first + i as f32 * width;
            let bar = |ms: f32| Rect::from_min_max(Pos2::new(x, y(ms)), Pos2::new(x + width, plot.bottom()));
            let late = frame.interval_ms > 1.5 * refresh_ms;
            painter.rect_filled(bar(frame.interval_ms), 0.0, if late { colors.late } else { colors.bar });
            painter.rect_filled(bar(frame.busy_ms.min(frame.interval_ms)), 0.0, colors.busy);
        }
        let line = y(refresh_ms);
        painter.hline(plot.x_range(), line, Stroke::new(1.0, colors.line));
        let font = egui::FontId::proportional(10.5);
        let label = |pos, align, text: String| painter.text(pos, align, text, font.clone(), colors.text);
        // Above the line, or below it where the label of the scale is in the way.
        let (align, at) = if line - plot.top() > 28.0 {
            (egui::Align2::LEFT_BOTTOM, line - 1.0)
        } else {
            (egui::Align2::LEFT_TOP, line + 1.0)
        };
        label(Pos2::new(plot.left() + 2.0, at), align, format!("{refresh_ms:.1} ms"));
        label(plot.right_top(), egui::Align2::RIGHT_TOP, format!("{top_ms:.0} ms"));
        response
    }
}

/// The colours of the graph.
#[derive(Clone, Copy, Debug)]
pub struct GraphColors {
    /// Background.
    pub background: Color32,
    /// A frame that was on time.
    pub bar: Color32,
    /// A frame that missed a refresh.
    pub late: Color32,
    /// The interface's own work.
    pub busy: Color32,
    /// The line at the refresh time.
    pub line: Color32,
    /// Labels.
    pub text: Color32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let quantiles = Quantiles::of((1..=100).rev().map(|v| v as f32)).unwrap();
        assert_eq!(quantiles, Quantiles { p50_ms: 50.0, p95_ms: 95.0, p99_ms: 99.0, max_ms: 100.0 });
        let one = Quantiles::of([7.0].into_iter()).unwrap();
        assert_eq!([one.p50_ms, one.p95_ms, one.max_ms], [7.0; 3]);
        assert_eq!(Quantiles::of([].into_iter()), None);
    }

    #[test]
    fn a_pause_is_not_a_frame() {
        let mut log = FrameLog::new(REFRESH);
        let start = Instant::now();
        log.record();
        for (ms, continuous) in [(0, false), (16, true), (1016, false), (1032, true)] {
            log.begin(start + Duration::from_millis(ms), Some(0.002), continuous, false);
        }
        let frames = log.take_recorded();
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|f| (f.interval_ms - 16.0).abs() < 0.01 && f.busy_ms == 2.0));
    }
}
