//! What to load and how.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::interrupt::{Interrupt, deadline_in};
use super::{Background, CancelFlag, Engine, ModelFiles};
use crate::error::{Error, Result};
use crate::gpu::GpuSource;
use crate::model::{LoadPhase, LoadProgress, ModelOptions, PLAN_STEPS, ProgressFn, report};

/// What to load and how; made by [`Engine::builder`].
///
/// A load reports its phases ([`LoadPhase`]) and can be ended at each report: by the
/// callback's `Break`, a flag, a time limit, a future that is dropped. Everything that
/// it allocated is given back then, and a device that it opened is closed. A builder can
/// be used again.
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
    /// A directory in Hugging Face layout. Without one, and without
    /// [`EngineBuilder::files`], the demo model is taken.
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.source = ModelSource::Dir(dir.into());
        self
    }

    /// Opened files, or random weights ([`ModelFiles::random`]), in place of a directory.
    #[must_use]
    pub fn files(mut self, files: impl Into<Arc<ModelFiles>>) -> Self {
        self.source = ModelSource::Files(files.into());
        self
    }

    /// The device: [`crate::gpu::GpuOptions`] to open one, the host application's
    /// [`crate::GpuContext`], or an open [`crate::gpu::Gpu`] that engines share.
    #[must_use]
    pub fn gpu(mut self, source: impl Into<GpuSource>) -> Self {
        self.gpu = source.into();
        self
    }

    /// Types, context and arithmetic.
    #[must_use]
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.model = options;
        self
    }

    /// A flag that ends the load at its next report, with [`Error::Cancelled`].
    #[must_use]
    pub fn cancel(mut self, flag: CancelFlag) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Time for each load; it ends at the first report behind it, with
    /// [`Error::Timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Opens and checks the model's files.
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
            ModelSource::Demo => {
                Err(Error::input("no model was named, and this build embeds none (feature demo-model)"))
            }
        }
    }

    /// Loads without reporting progress.
    ///
    /// # Errors
    /// Those of opening the files, the device, and of [`Engine::load`];
    /// [`Error::Cancelled`], [`Error::Timeout`].
    pub fn build(&self) -> Result<Engine> {
        self.build_with(&mut |_| ControlFlow::Continue(()))
    }

    /// Loads and reports progress; the callback's `Break` cancels.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`].
    pub fn build_with(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        self.load(None, progress)
    }

    /// Loads on a thread of its own, from the first poll on, for `async` code under any
    /// executor. A future that is dropped cancels the load.
    ///
    /// ```no_run
    /// # async fn f() -> wgpt::Result<()> {
    /// let engine = wgpt::Engine::builder().model("path/to/gpt2").build_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The future's: as [`EngineBuilder::build`], and [`Error::Io`] where the system has
    /// no further thread.
    pub fn build_async(&self) -> Background<Engine> {
        self.build_async_with(|_| ControlFlow::Continue(()))
    }

    /// As [`EngineBuilder::build_async`], with progress, reported on the load's thread.
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

    /// Opens files and device; [`Engine::load`] goes on behind these steps of the plan.
    fn load_steps(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        report(progress, LoadPhase::Plan, 0, PLAN_STEPS)?;
        let files = self.open_files()?;
        report(progress, LoadPhase::Plan, 1, PLAN_STEPS)?;
        let gpu = self.gpu.open()?;
        Engine::load(files, gpu, &self.model, progress)
    }
}
