//! A model on a device: what an engine's clones share, and how it moves to another
//! device.

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

/// What an engine's clones and sessions share.
pub(super) struct Shared {
    // Declared before what it runs on, so that it is dropped first.
    forward: Mutex<Forward>,
    /// Exchanged as a whole while `forward` is locked.
    bound: RwLock<Arc<Bound>>,
    pub(super) files: Arc<ModelFiles>,
    pub(super) options: ModelOptions,
    pub(super) n_ctx: usize,
}

/// A model's weights on a device.
pub(super) struct Bound {
    pub(super) model: Model,
    pub(super) gpu: Arc<Gpu>,
    pub(super) dims: Dims,
    /// Whether the cache had choices for the model.
    pub(super) tuned: bool,
}

/// The locked half of a model with the half that it runs on.
pub(super) struct Entered<'a> {
    pub(super) forward: MutexGuard<'a, Forward>,
    pub(super) bound: Arc<Bound>,
}

impl Shared {
    /// Takes the model for a step. A panic elsewhere leaves it usable: every step
    /// writes all of what it reads.
    pub(super) fn enter(&self) -> Entered<'_> {
        let forward = self.forward.lock().unwrap_or_else(PoisonError::into_inner);
        Entered { forward, bound: self.bound() }
    }

    /// Takes the half of the model that steps change.
    pub(super) fn lock(&self) -> MutexGuard<'_, Forward> {
        self.enter().forward
    }

    /// The device and what lies on it, without waiting for a step.
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
        // wgpu holds what was given back until the uploads to it are done. What went
        // wrong first is what counts.
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
    let model = Model { config, options: options.clone(), choices, weights };
    let forward = Forward::new(gpu, &model, dims.clone(), progress)?;
    gpu.save_pipelines();
    Ok((Bound { model, gpu: Arc::clone(gpu), dims, tuned }, forward))
}

impl Engine {
    /// Loads opened files onto an opened device, which several engines may share.
    /// Runs with the choices that were tuned for the model, where the device's
    /// cache has some ([`super::select`]).
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] when checkpoint and config disagree or a value does
    /// not fit the dtype; [`crate::Error::Budget`] before anything is allocated;
    /// [`crate::Error::Limits`], [`crate::Error::OutOfMemory`],
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device;
    /// [`crate::Error::Cancelled`]. Everything that was allocated is given back; kernels
    /// that were compiled stay with the device, where the next load finds them.
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

    /// Moves the model to another device: after a loss, or because the user chose
    /// one. The weights are read from the files and uploaded again; each session
    /// computes its keys and values anew from its tokens when it is next used.
    ///
    /// With [`ModelOptions::deterministic`] a session goes on with the bits that it
    /// would have had without the move, where both devices compute the same bits.
    /// Sessions that shared pages hold pages of their own afterwards.
    ///
    /// # Errors
    /// As [`Engine::load`]; the engine then stays where it is.
    pub fn rebind(&self, gpu: impl Into<Arc<Gpu>>) -> Result<()> {
        self.rebind_with(gpu, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Engine::rebind`], with progress; the callback's `Break` cancels.
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

/// Sees to it that the sessions' keys and values lie on the engine's present device,
/// and takes the model. Those of a session that was used on another device before are
/// computed anew, a chunk at a time, between which other sessions may step in.
///
/// # Errors
/// As [`Session::prefill`]; the session then tries again when it is next used.
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

    /// Runs all tokens of the log again; all or nothing.
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
                // Moved once more meanwhile.
                done = 0;
            }
            if done == 0 {
                self.pages.truncate(forward.cache(), 0);
            }
            let rows = forward.rows_within(bound.model.options.max_submit, done);
            let end = self.tokens.len().min(done + rows);
            let tokens = &self.tokens[done..end];
            forward.run(&bound.gpu, &bound.model, &mut self.pages, tokens, done, Output::None)?;
            done = end;
        }
        Ok(())
    }

    /// Forgets what is behind the first `len` tokens, pages that were taken for more
    /// than the session holds among them.
    pub(super) fn rewind(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.pages.truncate(self.shared.lock().cache(), len);
    }
}
