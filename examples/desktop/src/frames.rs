//! Frame times: what is kept of them, what they say, how they are drawn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eframe::egui::{self, Color32, Pos2, Rect, Stroke, Ui, vec2};
use serde::Serialize;

/// Frames of the graph.
const SHOWN: usize = 160;
/// A frame of a 60 Hz display.
pub const REFRESH: Duration = Duration::from_micros(16_667);
/// A frame while text arrives on a software adapter, which draws one of this window in 20
/// to 30 ms on two cores: drawn one after the other they would leave the engine little.
pub const SOFTWARE_REFRESH: Duration = Duration::from_millis(50);

/// One frame, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// From the beginning of the frame before to the beginning of this one.
    pub interval_ms: f32,
    /// The interface's own work in the frame before: layout, tessellation,
    /// submit; without waiting for the display.
    pub busy_ms: f32,
    /// Whether a prompt was being read.
    pub prefill: bool,
}

/// The frames of the graph, and all of them while something is measured.
#[derive(Debug)]
pub struct FrameLog {
    /// How often frames are meant to be drawn.
    pub refresh: Duration,
    last: Option<Instant>,
    shown: VecDeque<Frame>,
    recorded: Option<Vec<Frame>>,
}

/// Quantiles of one of the two times.
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
    /// By nearest rank; `None` without a value.
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
    /// No frames so far.
    #[must_use]
    pub fn new(refresh: Duration) -> Self {
        FrameLog { refresh, last: None, shown: VecDeque::new(), recorded: None }
    }

    /// A frame begins. Its interval counts where frames follow one another
    /// (`continuous`): a window in which nothing moves draws none, and the pause
    /// says nothing.
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

    /// Keeps every frame from here on.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// The frames since [`FrameLog::record`].
    pub fn take_recorded(&mut self) -> Vec<Frame> {
        self.recorded.take().unwrap_or_default()
    }

    /// Quantiles of the shown frames' intervals.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        Quantiles::of(self.shown.iter().map(|frame| frame.interval_ms))
    }

    /// Draws the newest frames as bars, the interface's own work as their
    /// darker foot, and the line of the refresh that is meant.
    pub fn graph(&self, ui: &mut Ui, colors: GraphColors) -> egui::Response {
        let size = vec2(ui.available_width(), 72.0);
        let (response, painter) = ui.allocate_painter(size, egui::Sense::hover());
        let rect = response.rect;
        painter.rect_filled(rect, 3.0, colors.background);
        // The scale is that of usual frames: a single long one is cut off at the top.
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
        // Above the line, or below it where the scale's own label stands.
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
    /// Behind everything.
    pub background: Color32,
    /// A frame in time.
    pub bar: Color32,
    /// A frame that missed a refresh.
    pub late: Color32,
    /// The interface's own work.
    pub busy: Color32,
    /// The line of the refresh.
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
    fn a_pause_is_no_frame() {
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
