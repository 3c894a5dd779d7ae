//! What happens, as JSON lines: the facts that a test of the window asserts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

/// Writes events to stdout where that was asked for.
#[derive(Debug)]
pub struct EventLog {
    enabled: bool,
    started: Instant,
    /// Where each named control was seen last.
    controls: RefCell<HashMap<&'static str, [i32; 4]>>,
}

impl EventLog {
    /// A log that writes only where `enabled`.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        EventLog { enabled, started: Instant::now(), controls: RefCell::default() }
    }

    /// Writes an event: its name and time first, then `fields`, an object.
    pub fn write(&self, event: &str, fields: Value) {
        if !self.enabled {
            return;
        }
        let rest = fields.to_string();
        let rest =
            rest.strip_prefix('{').filter(|rest| *rest != "}").map_or("}".into(), |rest| format!(",{rest}"));
        let ms = self.started.elapsed().as_millis();
        // A reader that went away does not end the window.
        let _ = writeln!(std::io::stdout(), "{{\"event\":{},\"ms\":{ms}{rest}", Value::from(event));
    }

    /// Writes where a control stands, in points, when that changed.
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
