//! The thread that owns the engine. It receives commands and sends events; the interface
//! never waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eframe::egui;
use wgpt::{CancelFlag, FinishReason, ModelFiles};
use wgpt::{LoadProgress, ModelOptions};
use wgpt::internals::model::random;
use wgpt::SamplingParams;
use wgpt::{Engine, Error};

use crate::generate::{self, Prompt};
use crate::gpu::HostDevice;
use crate::pace::Pace;
use crate::rate::{self, Rating};

/// Seed of random weights; frame times do not depend on it.
const RANDOM_SEED: u64 = 1;

/// The source of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The model embedded in the program.
    Embedded,
    /// A directory in Hugging Face layout.
    Directory(PathBuf),
    /// Random weights of the named shape.
    Random(String),
}

/// A command of the interface.
enum Command {
    Load(Source, CancelFlag),
    Generate(Request, CancelFlag),
    Rate { revision: u64, text: String, cancel: CancelFlag },
}

/// A request for a continuation.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the continuation, repeated in its events.
    pub id: u64,
    /// The text before the cursor, or tokens.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Maximum number of tokens.
    pub max_tokens: usize,
    /// Whether to continue after an end-of-text token.
    pub past_end: bool,
}

/// Facts about a loaded model, for the panel.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Number of weights and biases.
    pub n_parameters: u64,
    /// Maximum context in tokens.
    pub n_ctx: usize,
    /// GPU memory of the model, in bytes.
    pub bytes: u64,
    /// Whether the model has a tokenizer; random weights do not.
    pub has_tokenizer: bool,
    /// How long loading took.
    pub took: Duration,
}

/// An event for the interface.
#[derive(Debug)]
pub enum Event {
    /// A load has progressed.
    Progress(LoadProgress),
    /// A model was loaded.
    Loaded(ModelInfo),
    /// A load failed; `kept` says whether the previous model is still loaded.
    LoadFailed { error: Error, kept: bool },
    /// The number of prompt tokens that are read, and how many were dropped before them.
    Prompt { id: u64, tokens: usize, dropped: usize },
    /// The text of a token; it may be empty.
    Piece { id: u64, text: String, at: Instant },
    /// A continuation ended.
    Ended { id: u64, reason: FinishReason, tokens: usize, prompt_seconds: f64, rate: f64 },
    /// A continuation failed.
    Failed { id: u64, error: Error },
    /// The ratings of a text's tokens.
    Rated { revision: u64, ratings: Vec<Rating> },
    /// A text could not be rated.
    RatingFailed(Error),
}

/// Sends events and wakes the interface.
#[derive(Clone)]
pub struct Events {
    sender: Sender<Event>,
    context: egui::Context,
}

impl Events {
    /// Sends an event. A window that is closing may not receive it, which is not an error.
    /// Pieces and progress do not request a frame, because the window draws frames anyway
    /// while something runs.
    pub fn send(&self, event: Event) {
        let waits = matches!(event, Event::Piece { .. } | Event::Progress(_));
        let _ = self.sender.send(event);
        if !waits {
            self.context.request_repaint();
        }
    }
}

/// The interface's side of the thread.
pub struct Worker {
    commands: Option<Sender<Command>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    loading: CancelFlag,
    generating: CancelFlag,
    rating: CancelFlag,
    /// Time limit and gate for GPU work.
    pub pace: Pace,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's error if it cannot start a thread.
    pub fn start(device: HostDevice, context: egui::Context, options: ModelOptions) -> std::io::Result<Self> {
        let (commands, orders) = channel();
        let (sender, events) = channel();
        let pace = Pace::default();
        let mut room =
            Room { device, options, engine: None, events: Events { sender, context }, pace: pace.clone() };
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            for command in orders {
                room.run(command);
            }
        })?;
        Ok(Worker {
            commands: Some(commands),
            events,
            thread: Some(thread),
            loading: CancelFlag::default(),
            generating: CancelFlag::default(),
            rating: CancelFlag::default(),
            pace,
        })
    }

    /// Loads a model and cancels all running work.
    pub fn load(&mut self, source: Source) {
        self.stop();
        self.cancel_load();
        self.loading = CancelFlag::default();
        self.send(Command::Load(source, Arc::clone(&self.loading)));
    }

    /// Cancels a load.
    pub fn cancel_load(&self) {
        self.loading.store(true, Ordering::Relaxed);
    }

    /// Continues a text.
    pub fn generate(&mut self, request: Request) {
        self.stop();
        self.generating = CancelFlag::default();
        self.send(Command::Generate(request, Arc::clone(&self.generating)));
    }

    /// Rates the tokens of a text; an earlier rating is cancelled.
    pub fn rate(&mut self, revision: u64, text: String) {
        self.rating.store(true, Ordering::Relaxed);
        self.rating = CancelFlag::default();
        self.send(Command::Rate { revision, text, cancel: Arc::clone(&self.rating) });
    }

    /// Ends a continuation and a rating after the current piece of work.
    pub fn stop(&self) {
        self.generating.store(true, Ordering::Relaxed);
        self.rating.store(true, Ordering::Relaxed);
    }

    /// The events since the last call.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.try_iter()
    }

    /// Whether the thread has ended. Only a panic ends it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // Sending fails only if the thread has died; `is_dead` reports that.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Worker {
    /// Ends all work after the current piece and waits for it, so that the engine is
    /// dropped before the device.
    fn drop(&mut self) {
        self.cancel_load();
        self.stop();
        self.pace.open();
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state that the thread owns.
struct Room {
    device: HostDevice,
    options: ModelOptions,
    engine: Option<Engine>,
    events: Events,
    pace: Pace,
}

impl Room {
    fn run(&mut self, command: Command) {
        match command {
            Command::Load(source, cancel) => {
                let event = match self.load(&source, &cancel) {
                    Ok(info) => Event::Loaded(info),
                    Err(error) => Event::LoadFailed { error, kept: self.engine.is_some() },
                };
                self.events.send(event);
            }
            Command::Generate(request, cancel) => {
                let Some(engine) = &self.engine else { return };
                let id = request.id;
                if let Err(error) = generate::run(engine, request, cancel, &self.pace, &self.events) {
                    self.events.send(Event::Failed { id, error });
                }
            }
            Command::Rate { revision, text, cancel } => {
                let Some(engine) = &self.engine else { return };
                match rate::run(engine, &text, &cancel, &self.pace) {
                    Ok(ratings) => self.events.send(Event::Rated { revision, ratings }),
                    // A newer text will be rated instead.
                    Err(Error::Cancelled) => {}
                    Err(error) => self.events.send(Event::RatingFailed(error)),
                }
            }
        }
    }

    fn load(&mut self, source: &Source, cancel: &AtomicBool) -> wgpt::Result<ModelInfo> {
        let started = Instant::now();
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let files = match source {
            Source::Embedded => ModelFiles::demo()?,
            Source::Directory(dir) => ModelFiles::open(dir)?,
            Source::Random(shape) => ModelFiles::random(random::shape(shape)?, RANDOM_SEED)?,
        };
        // Frees the previous model's memory first, unless the files were rejected.
        self.engine = None;
        let events = self.events.clone();
        let pace = self.pace.clone();
        let mut progress = |progress: LoadProgress| {
            pace.breathe();
            events.send(Event::Progress(progress));
            if cancel.load(Ordering::Relaxed) {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        let gpu = self.device.engine()?;
        let engine = self.pace.piece(|| Engine::load(files, gpu, &self.options, &mut progress))?;
        let files = engine.files();
        let info = ModelInfo {
            name: files.name().to_owned(),
            n_parameters: files.n_parameters(),
            n_ctx: engine.n_ctx(),
            bytes: engine.gpu().ledger().total_bytes(),
            has_tokenizer: files.has_tokenizer(),
            took: started.elapsed(),
        };
        if info.has_tokenizer {
            engine.tokenizer()?;
        }
        self.engine = Some(engine);
        Ok(info)
    }
}
