//! Calls into wgpu that can fail, and the errors that they return.
//!
//! This library makes every such call through [`Gpu::guarded`]. It wraps the call in its
//! own error scopes, so neither the handler nor the scopes of a host program see wgpt's
//! faults. It also catches panics, because wgpu panics if a driver loses the device
//! during a poll.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Gpu;
use crate::error::{Error, Result};

/// The kinds of calls into wgpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Creating a buffer or another resource.
    Allocate,
    /// Writing data through the queue.
    Upload,
    /// Compiling a pipeline.
    Compile,
    /// Creating a bind group.
    Bind,
    /// Encoding commands and submitting them.
    Submit,
    /// Polling the device.
    Wait,
    /// Mapping a buffer for the host.
    Map,
}

impl Call {
    /// All kinds.
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

/// The faults that can occur in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is lost: a driver reset, or an unplugged card. If this library opened
    /// the device, the device is destroyed, so that later calls fail too.
    Loss,
    /// The driver has no memory.
    OutOfMemory,
    /// wgpu rejects the call.
    Validation,
    /// wgpu panics inside the call, as it does if a poll finds that the device is really
    /// lost.
    Panic,
}

/// Makes a device's calls fail, for tests. Clones share their planned faults.
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
    /// The number of calls of this kind that succeed first.
    after: u64,
    fault: Fault,
}

impl FaultInjector {
    /// Plans one failing call of this kind, after `after` more calls that succeed.
    pub fn inject(&self, call: Call, after: u64, fault: Fault) {
        self.lock().planned.push(Planned { call, after, fault });
    }

    /// Discards the planned faults that have not occurred yet and returns their number.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut self.lock().planned).len()
    }

    /// Returns the number of calls of this kind so far.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().seen[call as usize]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and returns the fault planned for it, if any.
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

/// Whether a device is lost, and why. A host program that owns the device must call
/// [`LossSignal::lost`] from its device-lost callback. A device has only one such
/// callback, so the engine leaves it to the host program.
#[derive(Clone, Debug, Default)]
pub struct LossSignal(Arc<OnceLock<String>>);

impl LossSignal {
    /// Marks the device as lost. The first reason is kept.
    pub fn lost(&self, reason: impl Into<String>) {
        // This fails only if a reason is already set.
        let _ = self.0.set(reason.into());
    }

    /// Returns the reason why the device is lost; `None` if it is not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Gpu {
    /// The fault injector of this device, for tests.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn faults(&self) -> FaultInjector {
        self.faults.clone()
    }

    /// Returns the reason why the device is lost; `None` while no loss is known. A lost
    /// device does no more work. [`crate::Engine::rebind`] switches to another one.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn loss(&self) -> Option<&str> {
        self.loss.reason()
    }

    pub(super) fn loss_signal(&self) -> &LossSignal {
        &self.loss
    }

    /// Returns an error if the device is lost.
    pub(crate) fn check_loss(&self) -> Result<()> {
        self.loss().map_or(Ok(()), |reason| Err(Error::DeviceLost { message: reason.to_owned() }))
    }

    /// Runs a call into wgpu and returns any fault in it as an error.
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
        let injected = self.faults.next(call);
        if let Some(error) = self.injected(injected, call) {
            return Err(error);
        }
        let filters =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        // Unwind safety: a panic leaves unfinished state only inside wgpu. Unless the
        // call was a compilation, `panicked` then abandons the device.
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
                // The device may have been lost during the call. wgpu reports that
                // through its callback.
                self.check_loss()?;
                Ok(value)
            }
        }
    }

    /// Returns the error of a fault that is injected instead of the call.
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

    /// Returns the error for a panic. A panic during compilation is the compiler's fault.
    /// After any other panic the state of the device is unknown, so the device counts as
    /// lost.
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
