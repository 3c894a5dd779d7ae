//! The source of an engine's device.

use std::sync::Arc;

use super::{Gpu, GpuContext, GpuOptions};
use crate::error::Result;

/// The source of an engine's device. [`crate::EngineBuilder::gpu`] accepts the content of
/// each variant directly.
#[derive(Clone)]
pub enum GpuSource {
    /// A device that the engine selects and opens with these options.
    Open(GpuOptions),
    /// The host program's device.
    Host(Box<GpuContext>),
    /// An open device, which several engines may share.
    Shared(Arc<Gpu>),
}

impl GpuSource {
    /// Opens the device or returns the open one.
    ///
    /// # Errors
    /// As [`Gpu::open`] and [`Gpu::from_host`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn open(&self) -> Result<Arc<Gpu>> {
        match self {
            GpuSource::Open(options) => Gpu::open(options).map(Arc::new),
            GpuSource::Host(context) => Gpu::from_host((**context).clone()).map(Arc::new),
            GpuSource::Shared(gpu) => Ok(Arc::clone(gpu)),
        }
    }
}

impl Default for GpuSource {
    fn default() -> Self {
        GpuSource::Open(GpuOptions::default())
    }
}

impl std::fmt::Debug for GpuSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GpuSource::Open(options) => f.debug_tuple("Open").field(options).finish(),
            GpuSource::Host(context) => f.debug_tuple("Host").field(context).finish(),
            GpuSource::Shared(gpu) => f.debug_tuple("Shared").field(&gpu.report().name).finish(),
        }
    }
}

impl From<GpuOptions> for GpuSource {
    fn from(options: GpuOptions) -> Self {
        GpuSource::Open(options)
    }
}

impl From<GpuContext> for GpuSource {
    fn from(context: GpuContext) -> Self {
        GpuSource::Host(Box::new(context))
    }
}

impl From<Arc<Gpu>> for GpuSource {
    fn from(gpu: Arc<Gpu>) -> Self {
        GpuSource::Shared(gpu)
    }
}

impl From<Gpu> for GpuSource {
    fn from(gpu: Gpu) -> Self {
        GpuSource::Shared(Arc::new(gpu))
    }
}
