//! A call on a separate thread, as a future.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::Session;
use super::interrupt::CancelFlag;
use super::worker::Worker;
use crate::error::Result;

/// A call that runs on a separate thread, as a future for any executor. It can also be
/// polled by hand once per frame ([`std::task::Waker::noop`]).
///
/// The thread starts at the first poll. Dropping the future cancels the call. The thread
/// ends when the call next checks its cancel flag, and frees everything that it held.
/// [`Background::stop`] waits for the thread. A panic in the call resumes in the poll
/// that detects it.
#[must_use = "a future does nothing unless it is polled"]
pub struct Background<T> {
    state: State<T>,
    abandoned: CancelFlag,
}

type Work<T> = dyn FnOnce(CancelFlag) -> Result<T> + Send;

enum State<T> {
    Waiting(Box<Work<T>>),
    Running(Worker<Infallible, Result<T>>),
    Done,
}

impl<T: Send + 'static> Background<T> {
    /// Creates the future. `work` receives a flag that is raised when the result is no
    /// longer needed.
    pub(super) fn new(work: impl FnOnce(CancelFlag) -> Result<T> + Send + 'static) -> Self {
        Background { state: State::Waiting(Box::new(work)), abandoned: CancelFlag::default() }
    }

    /// Cancels the call and waits until its thread has ended. If the call still produced
    /// a result, it is dropped.
    pub fn stop(mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
        if let State::Running(worker) = std::mem::replace(&mut self.state, State::Done) {
            drop(worker.join());
        }
    }
}

impl<T: Send + 'static> Future for Background<T> {
    type Output = Result<T>;

    /// # Panics
    /// Panics if it is polled again after it returned its result.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let worker = match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting(work) => {
                let abandoned = self.abandoned.clone();
                Worker::start("wgpt call", 0, move |_| work(abandoned))?
            }
            State::Running(worker) => worker,
            State::Done => panic!("a future was polled after it had returned its result"),
        };
        if worker.poll_item(context).is_pending() {
            self.state = State::Running(worker);
            return Poll::Pending;
        }
        Poll::Ready(worker.join())
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

impl Session {
    /// Runs one or more calls on a separate thread. The session moves there and is
    /// returned with the result of `work`. Dropping the future cancels the calls after
    /// the chunk in progress, and drops the session.
    ///
    /// ```no_run
    /// # async fn f(session: wgpt::Session, tokens: Vec<u32>) -> wgpt::Result<()> {
    /// let (session, logits) =
    ///     session.run_async(move |session| session.advance(&tokens).map(<[f32]>::to_vec)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The future returns [`crate::Error::Io`] if the system cannot start a thread; the
    /// session is then lost.
    pub fn run_async<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Background<(Session, T)> {
        Background::new(move |abandoned| {
            self.interrupt.abandoned = Some(abandoned);
            let value = work(&mut self);
            self.interrupt.abandoned = None;
            Ok((self, value))
        })
    }
}
