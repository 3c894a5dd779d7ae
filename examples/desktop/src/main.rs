//! A writing window on wgpt: text with streaming continuation at the cursor, and the
//! model's surprise at every word. The interface and the engine share one device.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]
#![cfg_attr(windows, windows_subsystem = "windows")]

mod app;
mod args;
mod bars;
mod draft;
mod editor;
mod frames;
mod generate;
mod gpu;
mod heat;
mod loading;
mod log;
mod measure;
mod pace;
mod panel;
mod rate;
mod run;
mod state;
mod theme;
mod tooltip;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use eframe::egui;
use serde_json::json;

use app::{App, Outcome, Session};
use args::Args;
use gpu::HostDevice;
use log::EventLog;
use state::Store;

/// The program gives up after this many device losses in a row. Otherwise a driver that
/// always resets would make the window flicker forever.
const LOSSES_MAX: u32 = 3;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) if args.help => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Opens one window after another, until the user closes one.
fn run(args: Args) -> Result<(), String> {
    let store = Store::new(&args.state);
    let (mut state, notice) = store.load();
    if let Some(text) = args.text {
        state.text = text;
    }
    if let Some(budget) = args.budget {
        state.settings.budgeted = budget.is_some();
        state.settings.budget_ms = budget.unwrap_or(state.settings.budget_ms);
    }
    let mut session = Session {
        state,
        store,
        log: EventLog::new(args.log_events),
        source: args.source,
        measure: args.measure,
        paced: args.paced,
        max_submit: args.max_submit,
        fault: args.fault.map(|after| Instant::now() + after),
        notice,
        outcome: Outcome::Closed,
    };
    let mut adapter = args.adapter;
    let mut losses = 0;
    loop {
        let wanted = adapter.as_deref().or(session.state.settings.adapter.as_deref());
        let device = HostDevice::open(wanted)?;
        let opened = Instant::now();
        match window(device, &mut session)? {
            Outcome::Closed => return Ok(()),
            Outcome::Failed(message) => return Err(message),
            Outcome::Adapter(_) => adapter = None,
            Outcome::Lost(message) => {
                losses = if opened.elapsed().as_secs() < 10 { losses + 1 } else { 1 };
                if losses >= LOSSES_MAX {
                    return Err(format!("The GPU was lost {losses} times in a row: {message}"));
                }
                session.notice =
                    Some(format!("The GPU was lost and opened anew; the text is as it was. {message}"));
            }
        }
    }
}

/// Runs a window until it ends.
fn window(device: HostDevice, session: &mut Session) -> Result<Outcome, String> {
    let mut options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("wgpt")
            .with_app_id("wgpt-desktop")
            .with_inner_size(app::WINDOW)
            .with_min_inner_size([760.0, 420.0]),
        ..Default::default()
    };
    options.wgpu_options.wgpu_setup = device.interface();
    session.outcome = Outcome::Closed;
    // The interface's renderer panics if the device is lost during a frame. After the panic
    // the window's event loop cannot run again.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        eframe::run_native(
            "wgpt",
            options,
            Box::new(|context| Ok(Box::new(App::new(&context.egui_ctx, device, session)?))),
        )
    }));
    match ran {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(format!("No window could be opened: {error}")),
        Err(_) => {
            session.store.save(&session.state)?;
            return Err("The window ended by a panic. Text and settings are kept: start it again.".into());
        }
    }
    let outcome = session.outcome.clone();
    session.log.write("window ended", json!({ "outcome": format!("{outcome:?}") }));
    Ok(outcome)
}
