//! The engine builder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::interrupt::{Interrupt, deadline_in};
use super::{Background, CancelFlag, Engine, ModelFiles};
use crate::error::{Error, Result};
use crate::gpu::GpuSource;
use crate::model::{LoadPhase, LoadProgress, ModelOptions, PLAN_STEPS, ProgressFn, report};

/// Describes a load: the files, the device and the options. [`Engine::builder`] creates
/// it.
///
/// A load reports its phases ([`LoadPhase`]). At each report the load can be cancelled:
/// by `Break` from the callback, by a flag, by a time limit, or by dropping the future. A
/// cancelled load frees everything that it allocated, and closes the device unless the
/// caller supplied it. A builder can be used more than once.
#[derive(Clone, Debug, Default)]
pub struct EngineBuilder {
    source: ModelSource,
    gpu: GpuSource,
    model: ModelOptions,
    cancel: Option<CancelFlag>,
    timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
enum ModelSource {
    #[default]
    Demo,
    Dir(PathBuf),
    Files(Arc<ModelFiles>),
}

impl EngineBuilder {
    /// Sets the model directory, in Hugging Face layout. Without a directory and without
    /// [`EngineBuilder::files`], the demo model is loaded.
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.source = ModelSource::Dir(dir.into());
        self
    }

    /// Sets opened files, or random weights ([`ModelFiles::random`]), instead of a
    /// directory.
    #[must_use]
    pub fn files(mut self, files: impl Into<Arc<ModelFiles>>) -> Self {
        self.source = ModelSource::Files(files.into());
        self
    }

    /// Sets the device: [`crate::gpu::GpuOptions`] to open one, a [`crate::GpuContext`]
    /// from the host application, or an open [`crate::gpu::Gpu`] that several engines
    /// share.
    #[must_use]
    pub fn gpu(mut self, source: impl Into<GpuSource>) -> Self {
        self.gpu = source.into();
        self
    }

    /// Sets data types, context length and arithmetic mode.
    #[must_use]
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.model = options;
        self
    }

    /// Sets a flag that ends the load with [`Error::Cancelled`] at its next progress
    /// report.
    #[must_use]
    pub fn cancel(mut self, flag: CancelFlag) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Sets a time limit for each load. A load that exceeds it ends at its next progress
    /// report, with [`Error::Timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Opens and checks the model files.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn open_files(&self) -> Result<Arc<ModelFiles>> {
        match &self.source {
            ModelSource::Files(files) => Ok(Arc::clone(files)),
            ModelSource::Dir(dir) => ModelFiles::open(dir).map(Arc::new),
            #[cfg(feature = "demo-model")]
            ModelSource::Demo => ModelFiles::demo().map(Arc::new),
            #[cfg(not(feature = "demo-model"))]
            ModelSource::Demo => Err(Error::input(
                "no model was given, and this build embeds none: give one \
                 (EngineBuilder::model), or build with the feature demo-model",
            )),
        }
    }

    /// Loads without reporting progress.
    ///
    /// # Errors
    /// The errors of opening the files and the device, and those of [`Engine::load`];
    /// [`Error::Cancelled`], [`Error::Timeout`].
    pub fn build(&self) -> Result<Engine> {
        self.build_with(&mut |_| ControlFlow::Continue(()))
    }

    /// Loads and reports progress. `Break` from the callback cancels the load.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`].
    pub fn build_with(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        self.load(None, progress)
    }

    /// Loads on a separate thread, for `async` code under any executor. The thread starts
    /// at the first poll. Dropping the future cancels the load.
    ///
    /// ```no_run
    /// # async fn f() -> wgpt::Result<()> {
    /// let engine = wgpt::Engine::builder().model("path/to/gpt2").build_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The future returns the errors of [`EngineBuilder::build`], and [`Error::Io`] if the
    /// system cannot start a thread.
    pub fn build_async(&self) -> Background<Engine> {
        self.build_async_with(|_| ControlFlow::Continue(()))
    }

    /// Like [`EngineBuilder::build_async`], but reports progress on the loading thread.
    pub fn build_async_with(
        &self,
        mut progress: impl FnMut(LoadProgress) -> ControlFlow<()> + Send + 'static,
    ) -> Background<Engine> {
        let builder = self.clone();
        Background::new(move |abandoned| builder.load(Some(abandoned), &mut progress))
    }

    fn load(&self, abandoned: Option<CancelFlag>, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        let deadline = deadline_in(self.timeout);
        let interrupt = Interrupt { cancel: self.cancel.clone(), deadline, abandoned };
        let mut reason = Error::Cancelled;
        let mut watched = |step: LoadProgress| {
            progress(step)?;
            interrupt.check().map_or_else(
                |error| {
                    reason = error;
                    ControlFlow::Break(())
                },
                ControlFlow::Continue,
            )
        };
        match self.load_steps(&mut watched) {
            Err(Error::Cancelled) => Err(reason),
            result => result,
        }
    }

    /// Opens the files and the device, the first two steps of [`LoadPhase::Plan`].
    /// [`Engine::load`] continues from there.
    fn load_steps(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        report(progress, LoadPhase::Plan, 0, PLAN_STEPS)?;
        let files = self.open_files()?;
        report(progress, LoadPhase::Plan, 1, PLAN_STEPS)?;
        let gpu = self.gpu.open()?;
        Engine::load(files, gpu, &self.model, progress)
    }
}
