//! Work on a thread of its own that wakes whoever polls for it: what futures and
//! streams stand on, whatever executor runs them.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// A thread that hands out items, then a result.
pub(super) struct Worker<T, R> {
    items: Receiver<T>,
    waker: Arc<WakerSlot>,
    thread: JoinHandle<R>,
}

/// Where a worker's thread puts its items.
pub(super) struct Outlet<T> {
    /// `None` once it is closed.
    items: Option<SyncSender<T>>,
    waker: Arc<WakerSlot>,
}

/// Whoever polled last and waits.
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

    /// Wakes outside the lock: a waker may poll at once.
    fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

impl<T> Outlet<T> {
    /// Hands out an item; waits while as many as the worker's capacity were not taken.
    /// `false` where nobody takes them any more.
    pub(super) fn send(&self, item: T) -> bool {
        let sent = self.items.as_ref().is_some_and(|items| items.send(item).is_ok());
        self.waker.wake();
        sent
    }
}

impl<T> Drop for Outlet<T> {
    /// Also where the work panics: the end must be seen in any case.
    fn drop(&mut self) {
        self.items = None;
        self.waker.wake();
    }
}

impl<T: Send + 'static, R: Send + 'static> Worker<T, R> {
    /// Starts the thread; `capacity` items wait there for whoever polls.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has no further thread.
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

    /// The next item; `None` behind the last one.
    pub(super) fn poll_item(&self, context: &Context<'_>) -> Poll<Option<T>> {
        // Before the look: an item that comes behind it wakes.
        self.waker.set(context.waker());
        let item = match self.items.try_recv() {
            Ok(item) => Some(item),
            Err(TryRecvError::Empty) => return Poll::Pending,
            Err(TryRecvError::Disconnected) => None,
        };
        // Nobody waits now.
        self.waker.take();
        Poll::Ready(item)
    }

    /// Takes no further item and waits for the result. A panic of the work goes on here.
    pub(super) fn join(self) -> R {
        let Worker { items, thread, .. } = self;
        // A thread that waits for room goes on.
        drop(items);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
