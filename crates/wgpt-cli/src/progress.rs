//! Progress on stderr: bars on a terminal, occasional lines elsewhere.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use wgpt::{CancelFlag, LoadPhase, LoadProgress};

use super::interrupt;
use super::output::{duration, note};

/// A bar of `total` units that disappears when dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// Creates a bar; `template` is indicatif's, and `{msg}` shows the message of
    /// [`Bar::set`].
    pub fn new(total: u64, template: &str) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// Sets the bar's total, of which `before` units were done when the bar started.
    /// Those units do not count towards the rate.
    pub fn set_total(&self, total: u64, before: u64) {
        if self.0.length() != Some(total) {
            self.0.set_length(total);
            self.0.set_position(before);
            self.0.reset_eta();
        }
    }

    /// Shows `done` units and a message.
    pub fn set(&self, done: u64, message: impl Into<String>) {
        self.0.set_message(message.into());
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Progress of a long run over counted units: a bar, or lines in a log.
pub struct Count {
    bar: Bar,
    unit: &'static str,
    total: u64,
    before: u64,
    started: Instant,
    noted: Instant,
}

/// Time between two lines of progress in a log.
const NOTE_EVERY: Duration = Duration::from_secs(20);

impl Count {
    /// Creates a counter of `unit`, a plural noun.
    pub fn new(unit: &'static str) -> Self {
        let bar = Bar::new(0, &format!("{{wide_bar}} {{pos}}/{{len}} {unit}, {{msg}}, {{eta}} left"));
        let now = Instant::now();
        Count { bar, unit, total: 0, before: 0, started: now, noted: now }
    }

    /// As [`Bar::set_total`].
    pub fn set_total(&mut self, total: u64, before: u64) {
        (self.total, self.before) = (total, before);
        self.bar.set_total(total, before);
    }

    /// Shows that `done` units are done, with the results known so far.
    pub fn set(&mut self, done: u64, known: &str) {
        self.bar.set(done, known);
        if !std::io::stderr().is_terminal() && self.noted.elapsed() > NOTE_EVERY && done > self.before {
            self.noted = Instant::now();
            note(&self.line(done, known, self.started.elapsed()));
        }
    }

    /// Formats the line for a log when `done` units took `elapsed`.
    fn line(&self, done: u64, known: &str, elapsed: Duration) -> String {
        let Count { unit, total, before, .. } = self;
        let rest = total.saturating_sub(done) as f64 / (done - before) as f64;
        let left = duration(elapsed.as_secs_f64() * rest);
        format!("{done} of {total} {unit}, {known}, {left} left")
    }
}

/// The progress bars of a load, one after the other.
pub struct LoadBars {
    cancel: CancelFlag,
    bar: Option<(&'static str, Bar)>,
}

impl LoadBars {
    /// Creates the bars of a load that Ctrl-C on `cancel` ends.
    pub fn new(cancel: CancelFlag) -> Self {
        LoadBars { cancel, bar: None }
    }

    /// Shows the progress of a load; the engine calls it.
    pub fn update(&mut self, progress: LoadProgress) -> ControlFlow<()> {
        // Blocks are read and uploaded alternately, so the bytes read show the progress
        // of both.
        if progress.phase != LoadPhase::Upload {
            let template = template(progress.phase);
            if self.bar.as_ref().is_none_or(|(shown, _)| *shown != template) {
                self.bar = None;
                self.bar = Some((template, Bar::new(progress.total, template)));
            }
            if let Some((_, bar)) = &self.bar {
                bar.set(progress.done, "");
            }
        }
        if interrupt::raised(&self.cancel) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

const fn template(phase: LoadPhase) -> &'static str {
    match phase {
        LoadPhase::Plan => "plan     {wide_bar} {pos}/{len}",
        LoadPhase::Read => "weights  {wide_bar} {binary_bytes}/{binary_total_bytes}",
        LoadPhase::Compile => "compile  {wide_bar} {pos}/{len}",
        LoadPhase::WarmUp => "warm-up  {wide_bar} {pos}/{len}",
        _ => "load     {wide_bar} {pos}/{len}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_estimated_from_this_run() {
        let mut count = Count::new("questions");
        count.set_total(120, 20);
        let line = count.line(40, "acc 0.5000", Duration::from_secs(10));
        assert_eq!(line, "40 of 120 questions, acc 0.5000, 40.00 s left");
    }

    #[test]
    fn templates_parse() {
        for phase in LoadPhase::ALL {
            ProgressStyle::with_template(template(phase)).unwrap();
        }
    }
}
