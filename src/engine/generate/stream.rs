//! A generation as a stream of pieces.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Generation, Piece};
use crate::engine::CancelFlag;
use crate::engine::worker::{Outlet, Worker};
use crate::error::Result;

/// Number of pieces that are buffered for the consumer. It is large enough to keep the
/// GPU busy while an interface draws a frame, and small enough that an unread text does
/// not run far ahead.
const PIECES_AHEAD: usize = 4;

/// A running generation as a stream of pieces, for any executor. It can also be polled by
/// hand once per frame ([`std::task::Waker::noop`]).
///
/// It runs on a separate thread, which starts at the first poll and waits while four
/// pieces are unread. Dropping the stream cancels the generation. The thread then ends
/// after the prompt chunk or the token in progress. [`GenerationStream::finish`] waits
/// for the thread.
#[must_use = "a stream does nothing unless it is polled"]
pub struct GenerationStream {
    state: State,
    abandoned: CancelFlag,
}

enum State {
    /// Before the first poll, and after the last piece.
    Idle(Box<Generation>),
    Running(Worker<Result<Piece>, Box<Generation>>),
    /// The generation is lost: its thread could not start, or it panicked.
    Lost,
}

impl GenerationStream {
    fn new(generation: Generation) -> Self {
        GenerationStream { state: State::Idle(Box::new(generation)), abandoned: CancelFlag::default() }
    }

    /// The generation, with its tokens, finish reason and timings. `None` between the
    /// first poll and the end.
    #[must_use]
    pub fn generation(&self) -> Option<&Generation> {
        match &self.state {
            State::Idle(generation) => Some(generation),
            State::Running(_) | State::Lost => None,
        }
    }

    /// Ends the stream and waits for its thread. A running text is cancelled, and unread
    /// pieces are dropped. Returns `None` if the thread could not start. A panic of the
    /// thread resumes here.
    #[must_use]
    pub fn finish(mut self) -> Option<Generation> {
        self.abandon();
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(generation) => Some(*generation),
            State::Running(worker) => Some(*worker.join()),
            State::Lost => None,
        }
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Runs the generation on the stream's thread and sends its pieces.
fn run(
    mut generation: Box<Generation>,
    abandoned: CancelFlag,
    pieces: &Outlet<Result<Piece>>,
) -> Box<Generation> {
    generation.session.interrupt.abandoned = Some(abandoned);
    for piece in generation.by_ref() {
        if !pieces.send(piece) {
            break;
        }
    }
    generation.session.interrupt.abandoned = None;
    generation
}

impl Stream for GenerationStream {
    type Item = Result<Piece>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let worker = match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(generation) if generation.ended => {
                self.state = State::Idle(generation);
                return Poll::Ready(None);
            }
            State::Idle(generation) => {
                let abandoned = self.abandoned.clone();
                let started = Worker::start("wgpt text", PIECES_AHEAD, move |pieces| {
                    run(generation, abandoned, pieces)
                });
                match started {
                    Ok(worker) => worker,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            State::Running(worker) => worker,
            State::Lost => return Poll::Ready(None),
        };
        let item = worker.poll_item(context);
        self.state = match item {
            Poll::Ready(None) => State::Idle(worker.join()),
            _ => State::Running(worker),
        };
        item
    }
}

impl Drop for GenerationStream {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Generation {
    /// Converts the generation into a stream, for `async` code: [`GenerationStream`].
    pub fn into_stream(self) -> GenerationStream {
        GenerationStream::new(self)
    }
}
