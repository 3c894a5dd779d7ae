//! Calls into wgpu that can fail, and what their failures become.
//!
//! Every call of this library goes through [`Gpu::guarded`]: inside error scopes of
//! its own, so that neither a host's handler nor a host's scopes see a fault of ours;
//! and behind a guard against panics, since wgpu panics where a driver loses the
//! device while it is polled.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Gpu;
use crate::error::{Error, Result};

/// Kinds of calls into wgpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A buffer or another resource is created.
    Allocate,
    /// Data are handed to the queue.
    Upload,
    /// A pipeline is compiled.
    Compile,
    /// A bind group is created.
    Bind,
    /// Commands are encoded and handed to the queue.
    Submit,
    /// The device is polled.
    Wait,
    /// A buffer is mapped for the host.
    Map,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 7] =
        [Call::Allocate, Call::Upload, Call::Compile, Call::Bind, Call::Submit, Call::Wait, Call::Map];

    const fn name(self) -> &'static str {
        match self {
            Call::Allocate => "allocate",
            Call::Upload => "upload",
            Call::Compile => "compile",
            Call::Bind => "bind",
            Call::Submit => "submit",
            Call::Wait => "wait",
            Call::Map => "read back",
        }
    }
}

/// What can go wrong in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is lost: a driver reset, a card that was unplugged. A device that
    /// this library opened is destroyed, so that later calls meet a lost one.
    Loss,
    /// The driver has no memory.
    OutOfMemory,
    /// wgpu refuses the call.
    Validation,
    /// wgpu panics inside the call, as it does where polling meets a true loss.
    Panic,
}

/// Makes calls fail: for tests of this library, and of how an application takes a
/// fault. Clones share their plans.
///
/// ```
/// use wgpt::gpu::{Call, Fault, FaultInjector, GpuOptions};
///
/// let faults = FaultInjector::default();
/// let options = GpuOptions { faults: Some(faults.clone()), ..GpuOptions::default() };
/// // The third submit from here finds the device lost.
/// faults.inject(Call::Submit, 2, Fault::Loss);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct FaultInjector(Arc<Mutex<Plans>>);

#[derive(Debug, Default)]
struct Plans {
    planned: Vec<Planned>,
    seen: [u64; Call::ALL.len()],
}

#[derive(Debug)]
struct Planned {
    call: Call,
    /// Calls of the kind that succeed first.
    after: u64,
    fault: Fault,
}

impl FaultInjector {
    /// Lets the call of a kind fail once, behind `after` more that succeed.
    pub fn inject(&self, call: Call, after: u64, fault: Fault) {
        self.lock().planned.push(Planned { call, after, fault });
    }

    /// Forgets what was planned and did not happen; returns how many that were.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut self.lock().planned).len()
    }

    /// Calls of a kind so far.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().seen[call as usize]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; what happens to it.
    fn next(&self, call: Call) -> Option<Fault> {
        let mut plans = self.lock();
        plans.seen[call as usize] += 1;
        let due = plans.planned.iter().position(|planned| planned.call == call && planned.after == 0);
        for planned in plans.planned.iter_mut().filter(|planned| planned.call == call) {
            planned.after = planned.after.saturating_sub(1);
        }
        due.map(|i| plans.planned.remove(i).fault)
    }
}

/// Whether a device is lost, and why. A host that owns the device hands the news on
/// by [`LossSignal::lost`], from its device-lost callback: there is one callback a
/// device, so that the engine does not take it away from the host.
#[derive(Clone, Debug, Default)]
pub struct LossSignal(Arc<OnceLock<String>>);

impl LossSignal {
    /// Says that the device is lost; the first reason stays.
    pub fn lost(&self, reason: impl Into<String>) {
        // A second call brings no news.
        let _ = self.0.set(reason.into());
    }

    /// Why the device is lost; `None` while it is not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Gpu {
    /// Why the device is lost; `None` while nothing is known of it. A lost device
    /// does nothing any more: [`crate::Engine::rebind`] takes another one.
    #[must_use]
    pub fn loss(&self) -> Option<&str> {
        self.loss.reason()
    }

    pub(super) fn loss_signal(&self) -> &LossSignal {
        &self.loss
    }

    /// An error where the device is lost.
    pub(crate) fn check_loss(&self) -> Result<()> {
        self.loss().map_or(Ok(()), |reason| Err(Error::DeviceLost { message: reason.to_owned() }))
    }

    /// Runs a call into wgpu; whatever goes wrong in it is an error here.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`], [`Error::Gpu`].
    pub(super) fn guarded<T>(
        &self,
        call: Call,
        operation: &'static str,
        run: impl FnOnce() -> T,
    ) -> Result<T> {
        self.check_loss()?;
        let injected = self.options.faults.as_ref().and_then(|faults| faults.next(call));
        if let Some(error) = self.injected(injected, call) {
            return Err(error);
        }
        let filters =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        // What a panic leaves half-done lies in wgpu; a device that it hit is given up.
        let value = catch_unwind(AssertUnwindSafe(|| {
            assert!(injected != Some(Fault::Panic), "injected: wgpu panics");
            run()
        }));
        let mut faults = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        let fault = faults.next();
        faults.for_each(drop);
        match (value, fault) {
            (Err(panic), _) => Err(self.panicked(call, &*panic)),
            (Ok(_), Some(error)) => Err(scope_error(operation, &error)),
            (Ok(value), None) => {
                // The device may have been lost in the call: wgpu says so by its callback.
                self.check_loss()?;
                Ok(value)
            }
        }
    }

    /// The error of a fault that happens instead of the call.
    fn injected(&self, fault: Option<Fault>, call: Call) -> Option<Error> {
        let message = format!("injected into a call of the kind {}", call.name());
        match fault? {
            Fault::Loss => {
                if self.owned {
                    self.device.destroy();
                }
                self.loss.lost(&message);
                Some(Error::DeviceLost { message })
            }
            Fault::OutOfMemory => {
                Some(Error::OutOfMemory { what: call.name().to_owned(), bytes: None, message })
            }
            Fault::Validation => Some(Error::Gpu { operation: call.name(), message }),
            Fault::Panic => None,
        }
    }

    /// A panic while compiling is the compiler's; any other one leaves the device in
    /// an unknown state.
    fn panicked(&self, call: Call, panic: &(dyn Any + Send)) -> Error {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        let message = format!("wgpu panicked: {}", text.trim_end());
        if call == Call::Compile {
            return Error::Gpu { operation: call.name(), message };
        }
        self.loss.lost(&message);
        Error::DeviceLost { message }
    }
}

fn scope_error(operation: &'static str, error: &wgpu::Error) -> Error {
    let message = error.to_string();
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::OutOfMemory { what: operation.to_owned(), bytes: None, message }
        }
        _ => Error::Gpu { operation, message },
    }
}
