//! Events as JSON lines, for tests of the window.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

/// Writes events to stdout, if enabled.
#[derive(Debug)]
pub struct EventLog {
    enabled: bool,
    started: Instant,
    /// The last known place of each named control.
    controls: RefCell<HashMap<&'static str, [i32; 4]>>,
}

impl EventLog {
    /// Creates a log, which writes only if `enabled`.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        EventLog { enabled, started: Instant::now(), controls: RefCell::default() }
    }

    /// Writes an event: its name and time, followed by `fields`, which must be an object.
    pub fn write(&self, event: &str, fields: Value) {
        if !self.enabled {
            return;
        }
        let rest = fields.to_string();
        let rest =
            rest.strip_prefix('{').filter(|rest| *rest != "}").map_or("}".into(), |rest| format!(",{rest}"));
        let ms = self.started.elapsed().as_millis();
        // A missing reader is not an error.
        let _ = writeln!(std::io::stdout(), "{{\"event\":{},\"ms\":{ms}{rest}", Value::from(event));
    }

    /// Writes a control's place, in points, if it changed.
    pub fn control(&self, name: &'static str, rect: eframe::egui::Rect) {
        if !self.enabled {
            return;
        }
        let place = [rect.min.x, rect.min.y, rect.width(), rect.height()].map(|v| v.round() as i32);
        if self.controls.borrow_mut().insert(name, place) != Some(place) {
            self.write("control", json!({ "name": name, "rect": place }));
        }
    }
}
