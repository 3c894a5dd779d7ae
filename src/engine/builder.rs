//! What to load and how.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, ModelFiles};
use crate::error::Result;
use crate::gpu::{Gpu, GpuOptions};
use crate::model::{ModelOptions, ProgressFn};

/// What to load and how; made by [`Engine::builder`].
#[derive(Clone, Debug, Default)]
pub struct EngineBuilder {
    dir: Option<PathBuf>,
    gpu: GpuOptions,
    model: ModelOptions,
}

impl EngineBuilder {
    /// A directory in Hugging Face layout. Without it the demo model is taken.
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// How the device is chosen and opened.
    #[must_use]
    pub fn gpu(mut self, options: GpuOptions) -> Self {
        self.gpu = options;
        self
    }

    /// Types, context and arithmetic.
    #[must_use]
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.model = options;
        self
    }

    /// Opens and checks the model's files.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn open_files(&self) -> Result<ModelFiles> {
        match &self.dir {
            Some(dir) => ModelFiles::open(dir),
            #[cfg(feature = "demo-model")]
            None => ModelFiles::demo(),
            #[cfg(not(feature = "demo-model"))]
            None => Err(crate::Error::input(
                "no model was named, and this build embeds none (feature demo-model)",
            )),
        }
    }

    /// Loads without reporting progress.
    ///
    /// # Errors
    /// Those of opening the files, the device, and of loading.
    pub fn build(&self) -> Result<Engine> {
        self.build_with(&mut |_| std::ops::ControlFlow::Continue(()))
    }

    /// Loads and reports progress; the callback's `Break` cancels.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`]; [`crate::Error::Cancelled`].
    pub fn build_with(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        Engine::load(self.open_files()?, Arc::new(Gpu::open(&self.gpu)?), &self.model, progress)
    }
}
