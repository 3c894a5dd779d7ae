//! Bars on stderr, on a terminal only.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use wgpt::engine::CancelFlag;
use wgpt::model::{LoadPhase, LoadProgress};

use super::interrupt;

/// A bar of `total` units that disappears when dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// `template` is indicatif's; `{msg}` shows what [`Bar::set`] was given.
    pub fn new(total: u64, template: &str) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// Sets what the bar counts to, of which `before` units were there when it began: they
    /// do not enter the rate.
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

/// The bars of a load, one phase after the other.
pub struct LoadBars {
    cancel: CancelFlag,
    bar: Option<(LoadPhase, Bar)>,
}

impl LoadBars {
    /// Ctrl-C on `cancel` ends the load.
    pub fn new(cancel: CancelFlag) -> Self {
        LoadBars { cancel, bar: None }
    }

    /// Shows the progress of a load; the engine's callback.
    pub fn update(&mut self, progress: LoadProgress) -> ControlFlow<()> {
        if self.bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            self.bar = None;
            self.bar = Some((progress.phase, Bar::new(progress.total, template(progress.phase))));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set(progress.done, "");
        }
        if interrupt::raised(&self.cancel) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

const fn template(phase: LoadPhase) -> &'static str {
    match phase {
        LoadPhase::Weights => "weights  {wide_bar} {binary_bytes}/{binary_total_bytes}",
        LoadPhase::Compile => "compile  {wide_bar} {pos}/{len}",
        LoadPhase::WarmUp => "warm-up  {wide_bar} {pos}/{len}",
        _ => "load     {wide_bar} {pos}/{len}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for phase in [LoadPhase::Weights, LoadPhase::Compile, LoadPhase::WarmUp] {
            ProgressStyle::with_template(template(phase)).unwrap();
        }
    }
}
