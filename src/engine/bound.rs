//! A model on a device: the state that an engine's clones share, and the move to another
//! device.
//!
//! If a session's pages belong to another device, the next use of the session runs its
//! tokens again in chunks. Sessions that shared pages no longer share them afterwards.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::memory::{check_budget, prepare};
use super::tuning::Selection;
use super::{Engine, ModelFiles, Session};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::{
    Dims, Forward, LoadPhase, Model, ModelOptions, Output, PLAN_STEPS, ProgressFn, Weights, report,
};

/// State shared by an engine's clones and sessions.
pub(super) struct Shared {
    // Declared before its device, so that it is dropped first.
    forward: Mutex<Forward>,
    /// Replaced as a whole while `forward` is locked.
    bound: RwLock<Arc<Bound>>,
    pub(super) files: Arc<ModelFiles>,
    pub(super) options: ModelOptions,
    pub(super) n_ctx: usize,
}

/// A model on its device, with its options and choices.
pub(super) struct Bound {
    pub(super) model: Model,
    pub(super) dims: Dims,
    /// Whether the tuning cache had choices for the model.
    pub(super) tuned: bool,
}

/// The locked part of a model, with the device that it runs on.
pub(super) struct Entered<'a> {
    pub(super) forward: MutexGuard<'a, Forward>,
    pub(super) bound: Arc<Bound>,
}

impl Shared {
    /// Locks the model for a step. The model stays usable after a panic in another
    /// thread, because every step writes everything that it reads.
    pub(super) fn enter(&self) -> Entered<'_> {
        let forward = self.forward.lock().unwrap_or_else(PoisonError::into_inner);
        Entered { forward, bound: self.bound() }
    }

    /// Locks the part of the model that steps change.
    pub(super) fn lock(&self) -> MutexGuard<'_, Forward> {
        self.enter().forward
    }

    /// The device and the model's data on it. The call does not wait for a running step.
    pub(super) fn bound(&self) -> Arc<Bound> {
        Arc::clone(&self.bound.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Uploads a model and prepares its passes.
fn bind(
    files: &ModelFiles,
    gpu: Arc<Gpu>,
    options: &ModelOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<(Bound, Forward)> {
    let bound = bind_unsettled(files, &gpu, options, progress);
    if bound.is_err() {
        // wgpu keeps freed buffers alive until the uploads to them complete. An error of the
        // flush is ignored, because the first error is the one to report.
        let _ = gpu.flush();
    }
    bound
}

fn bind_unsettled(
    files: &ModelFiles,
    gpu: &Arc<Gpu>,
    options: &ModelOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<(Bound, Forward)> {
    report(progress, LoadPhase::Plan, PLAN_STEPS - 2, PLAN_STEPS)?;
    let config = files.config().clone();
    let device = gpu.preview();
    let (Selection { choices, tuned, warning }, dims) = prepare(&config, options, &device)?;
    if let Some(warning) = warning {
        gpu.warn(warning);
    }
    check_budget(&config, options, &device, dims.plan())?;
    report(progress, LoadPhase::Plan, PLAN_STEPS - 1, PLAN_STEPS)?;
    let weights = Weights::load(gpu, &config, files.checkpoint(), options.dtype, progress)?;
    let model = Model { config, options: options.clone(), choices, weights, gpu: Arc::clone(gpu) };
    let forward = Forward::new(&model, dims.clone(), progress)?;
    gpu.save_pipelines();
    Ok((Bound { model, dims, tuned }, forward))
}

impl Engine {
    /// Loads opened files onto an opened device. Several engines may share the device. If
    /// the device's cache has kernels that were tuned for the model, the model runs with
    /// them ([`super::select`]).
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if checkpoint and config disagree or a value does not fit
    /// the dtype; [`crate::Error::Budget`] before anything is allocated;
    /// [`crate::Error::Limits`], [`crate::Error::OutOfMemory`],
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device;
    /// [`crate::Error::Cancelled`]. After an error, everything that was allocated is
    /// freed. Compiled kernels stay with the device, and the next load reuses them.
    pub fn load(
        files: impl Into<Arc<ModelFiles>>,
        gpu: Arc<Gpu>,
        options: &ModelOptions,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Engine> {
        let files = files.into();
        let (bound, forward) = bind(&files, gpu, options, progress)?;
        let n_ctx = bound.dims.n_ctx;
        let (forward, bound) = (Mutex::new(forward), RwLock::new(Arc::new(bound)));
        Ok(Engine { shared: Arc::new(Shared { forward, bound, files, options: options.clone(), n_ctx }) })
    }

    /// Moves the model to another device, after a device loss or because the user
    /// selected another device. The weights are read from the files and uploaded again.
    /// When a session is next used, it recomputes its keys and values from its tokens.
    ///
    /// If the model is [`ModelOptions::deterministic`] and both devices compute the same
    /// bits, a session continues with the bits that it would have had without the move.
    /// Sessions that shared pages no longer share them afterwards.
    ///
    /// # Errors
    /// As [`Engine::load`]; the engine then stays on its current device.
    pub fn rebind(&self, gpu: impl Into<Arc<Gpu>>) -> Result<()> {
        self.rebind_with(gpu, &mut |_| ControlFlow::Continue(()))
    }

    /// Like [`Engine::rebind`], but reports progress. `Break` from the callback cancels.
    ///
    /// # Errors
    /// As [`Engine::rebind`]; [`crate::Error::Cancelled`].
    pub fn rebind_with(&self, gpu: impl Into<Arc<Gpu>>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let (bound, new) = bind(&self.shared.files, gpu.into(), &self.shared.options, progress)?;
        let mut forward = self.shared.forward.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *forward, new);
        let mut place = self.shared.bound.write().unwrap_or_else(PoisonError::into_inner);
        let old_bound = std::mem::replace(&mut *place, Arc::new(bound));
        drop((place, forward));
        drop((old, old_bound));
        Ok(())
    }
}

/// Ensures that the sessions' keys and values are on the engine's current device, and
/// locks the model. A session that was last used on another device is recomputed, one
/// chunk at a time. Other sessions may run between chunks.
///
/// # Errors
/// As [`Session::prefill`]. The next use of the session tries again.
pub(super) fn enter_with<'s>(shared: &'s Shared, sessions: &mut [&mut Session]) -> Result<Entered<'s>> {
    loop {
        let mut entered = shared.enter();
        let Some(session) = sessions.iter_mut().find(|s| !s.is_cached(&mut entered.forward)) else {
            return Ok(entered);
        };
        drop(entered);
        session.recompute(shared)?;
    }
}

impl Session {
    /// Whether the pages hold the session's tokens on the device of `forward`.
    fn is_cached(&self, forward: &mut Forward) -> bool {
        self.pages.holds(forward.cache(), self.tokens.len())
    }

    /// Runs all tokens of the session again. After an error the session holds no pages.
    fn recompute(&mut self, shared: &Shared) -> Result<()> {
        let result = self.run_log(shared);
        if result.is_err() {
            self.pages.truncate(shared.lock().cache(), 0);
        }
        result
    }

    fn run_log(&mut self, shared: &Shared) -> Result<()> {
        let mut done = 0;
        while done < self.tokens.len() {
            self.check_cancel()?;
            let Entered { mut forward, bound } = shared.enter();
            if !self.pages.holds(forward.cache(), done) {
                // The engine moved again while it was unlocked.
                done = 0;
            }
            if done == 0 {
                self.pages.truncate(forward.cache(), 0);
            }
            let rows = forward.rows_within(bound.model.options.max_submit, done);
            let end = self.tokens.len().min(done + rows);
            let tokens = &self.tokens[done..end];
            forward.run(&bound.model, &mut self.pages, tokens, done, Output::None)?;
            done = end;
        }
        Ok(())
    }

    /// Removes all tokens after the first `len`, and all pages beyond them, including pages
    /// that were taken for tokens the session never received.
    pub(super) fn rewind(&mut self, len: usize) {
        self.tokens.truncate(len);
        let shared = Arc::clone(&self.shared);
        self.drop_unused_pages(&mut shared.lock());
    }

    /// Drops the pages beyond the session's tokens. A failed step may have taken them for
    /// tokens that it did not add.
    pub(super) fn drop_unused_pages(&mut self, forward: &mut Forward) {
        self.pages.truncate(forward.cache(), self.tokens.len());
    }
}
