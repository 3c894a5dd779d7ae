//! One call on a thread of its own, as a future.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::Session;
use super::interrupt::CancelFlag;
use super::worker::Worker;
use crate::error::Result;

/// A call that runs on a thread of its own, as a future that any executor may poll,
/// also by hand once a frame ([`std::task::Waker::noop`]).
///
/// The thread starts at the first poll. A future that is dropped cancels the call: the
/// thread ends at the call's next look at its cancel flag, and gives back what it held;
/// [`Background::stop`] waits for that. A panic of the call goes on in whoever polls.
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
    /// `work` is handed the flag that tells it of nobody waiting any more.
    pub(super) fn new(work: impl FnOnce(CancelFlag) -> Result<T> + Send + 'static) -> Self {
        Background { state: State::Waiting(Box::new(work)), abandoned: CancelFlag::default() }
    }

    /// Cancels the call and waits until its thread has ended; whatever it made by then
    /// is dropped.
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
    /// When it is polled once more behind its result, as any future may.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let worker = match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting(work) => {
                let abandoned = self.abandoned.clone();
                Worker::start("wgpt call", 0, move |_| work(abandoned))?
            }
            State::Running(worker) => worker,
            State::Done => panic!("a future was polled behind its result"),
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
    /// Runs a call, or several, on a thread of their own: the session moves there and
    /// comes back with what `work` returns. A future that is dropped cancels them within
    /// a chunk, and the session with them.
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
    /// The future's: [`crate::Error::Io`] where the system has no further thread; the
    /// session is lost then.
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
