//! Pacing of the engine's work on the queue that it shares with the interface: how long a
//! piece of work may take, and when it must wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum time that the interface waits for a piece of work.
const PIECE_MAX: Duration = Duration::from_secs(2);

/// The time limit for a piece of work, which can change while work runs, and the gate
/// before each piece. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Time limit of a piece, in microseconds; 0 for none.
    micros: AtomicU64,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    working: bool,
}

impl Pace {
    /// Sets the time limit; `None` removes it.
    pub fn set(&self, budget_ms: Option<f32>) {
        let micros = budget_ms.map_or(0, |ms| (ms * 1e3).max(1.0) as u64);
        self.0.micros.store(micros, Ordering::Relaxed);
    }

    /// The time limit.
    #[must_use]
    pub fn budget(&self) -> Option<Duration> {
        match self.0.micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Runs a piece of the engine's work once the gate is open.
    pub fn piece<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enter();
        // The gate is also left if the piece panics.
        let _leave = Leave(self);
        work()
    }

    /// A point within a piece at which the piece waits while the gate is closed.
    pub fn breathe(&self) {
        self.leave();
        self.enter();
    }

    /// Closes the gate and waits for the piece in progress, for at most `PIECE_MAX`.
    /// Until [`Pace::open`] the engine then submits nothing to the queue.
    pub fn close(&self) {
        let mut gate = self.gate();
        gate.closed = true;
        let waited = self.0.changed.wait_timeout_while(gate, PIECE_MAX, |gate| gate.working);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.gate().closed = false;
        self.0.changed.notify_all();
    }

    fn enter(&self) {
        let waited = self.0.changed.wait_while(self.gate(), |gate| gate.closed);
        waited.unwrap_or_else(PoisonError::into_inner).working = true;
    }

    fn leave(&self) {
        self.gate().working = false;
        self.0.changed.notify_all();
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave<'a>(&'a Pace);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn nothing_runs_while_the_gate_is_closed() {
        let (pace, runs) = (Pace::default(), Arc::new(AtomicU32::new(0)));
        let (worker, counted) = (pace.clone(), Arc::clone(&runs));
        let thread = std::thread::spawn(move || {
            while worker.piece(|| counted.fetch_add(1, Ordering::SeqCst)) < 1000 {
                std::thread::yield_now();
            }
        });
        pace.close();
        let before = runs.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(runs.load(Ordering::SeqCst), before);
        pace.open();
        thread.join().unwrap();
    }

    #[test]
    fn clones_share_the_bound() {
        let pace = Pace::default();
        assert_eq!(pace.clone().budget(), None);
        pace.set(Some(2.5));
        assert_eq!(pace.clone().budget(), Some(Duration::from_micros(2500)));
    }
}
