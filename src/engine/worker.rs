//! Work on a separate thread that wakes its consumer: the basis for futures and streams
//! under any executor.
//!
//! The thread waits while the channel is full (four pieces for a stream of text).
//! Dropping a consumer raises a flag, in addition to the caller's, and does not wait.
//! Stopping and finishing wait for the thread.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// A thread that sends items, then returns a result.
pub(super) struct Worker<T, R> {
    items: Receiver<T>,
    waker: Arc<WakerSlot>,
    thread: JoinHandle<R>,
}

/// The sending end of a worker's channel.
pub(super) struct Outlet<T> {
    /// `None` once the channel is closed.
    items: Option<SyncSender<T>>,
    waker: Arc<WakerSlot>,
}

/// The waker of the task that polled last and is waiting.
#[derive(Default)]
struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    fn set(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    fn take(&self) -> Option<Waker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Wakes after unlocking, because a waker may poll at once.
    fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

impl<T> Outlet<T> {
    /// Sends an item. Blocks while the worker's buffer is full. Returns `false` if the
    /// consumer is gone.
    pub(super) fn send(&self, item: T) -> bool {
        let sent = self.items.as_ref().is_some_and(|items| items.send(item).is_ok());
        self.waker.wake();
        sent
    }
}

impl<T> Drop for Outlet<T> {
    /// Runs even if the work panics, so the consumer always sees the end.
    fn drop(&mut self) {
        self.items = None;
        self.waker.wake();
    }
}

impl<T: Send + 'static, R: Send + 'static> Worker<T, R> {
    /// Starts the thread. Up to `capacity` items are buffered for the consumer.
    ///
    /// # Errors
    /// [`Error::Io`] if the system cannot start a thread.
    pub(super) fn start(
        name: &str,
        capacity: usize,
        work: impl FnOnce(&Outlet<T>) -> R + Send + 'static,
    ) -> Result<Self> {
        let (sender, items) = sync_channel(capacity);
        let waker = Arc::<WakerSlot>::default();
        let outlet = Outlet { items: Some(sender), waker: Arc::clone(&waker) };
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || work(&outlet)).map_err(|source| {
                Error::Io { action: "start", path: format!("the thread {name}").into(), source }
            })?;
        Ok(Worker { items, waker, thread })
    }

    /// The next item; `None` after the last one.
    pub(super) fn poll_item(&self, context: &Context<'_>) -> Poll<Option<T>> {
        // Set before the check, so that an item that arrives after the check wakes the
        // consumer.
        self.waker.set(context.waker());
        let item = match self.items.try_recv() {
            Ok(item) => Some(item),
            Err(TryRecvError::Empty) => return Poll::Pending,
            Err(TryRecvError::Disconnected) => None,
        };
        // The consumer no longer waits.
        self.waker.take();
        Poll::Ready(item)
    }

    /// Stops receiving items and waits for the result. A panic of the work resumes here.
    pub(super) fn join(self) -> R {
        let Worker { items, thread, .. } = self;
        // Unblocks a thread that waits to send.
        drop(items);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
