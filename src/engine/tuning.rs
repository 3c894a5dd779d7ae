//! Selects the kernels that a model runs: the tuned choices and the forced variants.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::memory::{check_budget, prepare};
use super::{Engine, ModelFiles};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Capabilities, Gpu, GpuOptions};
use crate::kernels::{Choices, Op};
use crate::memory::{MemoryGroup, MemoryPlan, PlanEntry};
use crate::model::{Decoder, Model, ModelOptions, ProgressFn, Weights};
use crate::tune::cache::{self, Found, Key};
pub use crate::tune::tuned_shapes;
use crate::tune::{self, Budget, Progress, Tuning};

/// The kernels that a model runs, and the source of the choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The implementation of each operation.
    pub choices: Choices,
    /// Whether the cache had choices for this model on this device.
    pub tuned: bool,
    /// The reason why a cache file was ignored, or the kernel that runs although it
    /// failed its check.
    pub warning: Option<String>,
}

/// Selects the kernels for a model on a device. The tuned choices of the cache
/// ([`GpuOptions::cache_dir`]) override the defaults; the variants forced by
/// [`ModelOptions::variants`] override both. This reads one small file and measures
/// nothing. Deterministic models use no tuned choices, because their bits must not depend
/// on a measurement.
///
/// # Errors
/// [`crate::Error::Input`] if a forced variant cannot run on the device.
pub fn select(
    adapter: Option<&AdapterReport>,
    device: &Capabilities,
    gpu: &GpuOptions,
    config: &Decoder,
    options: &ModelOptions,
) -> Result<Selection> {
    let Found { choices: tuned, dropped, mut warning } = match (adapter, &gpu.cache_dir) {
        (Some(adapter), Some(dir)) if !options.deterministic => {
            cache::load(dir, &Key::new(adapter, device, tuned_shapes(config, options)), device)
        }
        _ => Found::default(),
    };
    let variants = [tuned.as_deref().unwrap_or_default(), &options.variants].concat();
    let choices = Choices::new(device, &variants)?.for_model(device, options.deterministic, options.dtype);
    if let Some(forced) = options.variants.iter().find(|forced| choices.get(forced.op) != **forced) {
        return Err(Error::input(format!(
            "variant {forced}: this model cannot run it: ModelOptions::deterministic excludes sums that \
             depend on the number of rows, ModelOptions::dtype = f32 excludes rounding to f16, and only one \
             variant of an operation can be chosen"
        )));
    }
    // A failed kernel runs if it is forced, or if it is the default and nothing better
    // passed.
    let failed = Op::ALL.map(|op| choices.get(op).to_string()).into_iter();
    if let Some((name, reason)) = failed.filter_map(|name| dropped.get_key_value(&name)).next() {
        warning = Some(format!("variant {name} failed its check on this driver when it was tuned: {reason}"));
    }
    Ok(Selection { choices, tuned: tuned.is_some(), warning })
}

/// Searches for the fastest kernels for a model on a device and stores the choice in
/// [`GpuOptions::cache_dir`], if one is set. Models loaded afterwards use it. The weights
/// are loaded for the search and freed after it. If the directory cannot be written or
/// kernels failed their check, [`Gpu::warnings`] reports it.
///
/// # Errors
/// As [`Engine::load`] and [`tune::run`]; nothing is stored then.
pub fn tune_model(
    gpu: &Arc<Gpu>,
    files: &ModelFiles,
    options: &ModelOptions,
    budget: Budget,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    if budget.time.is_zero() {
        return Ok(Tuning::default());
    }
    let mut watch = |_| match cancel.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let model = load_model(gpu, files, options, &mut watch)?;
    let dims = prepare(files.config(), options, &gpu.preview())?.1;
    let mut held = dims.plan();
    held.entries.retain(|entry| entry.group == MemoryGroup::Weights);
    tune_loaded(&model, held, budget, progress, cancel)
}

/// Loads a model's weights onto a device, with the kernels and the memory budget that an
/// engine would use.
///
/// # Errors
/// As [`Engine::load`].
pub fn load_model(
    gpu: &Arc<Gpu>,
    files: &ModelFiles,
    options: &ModelOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<Model> {
    let (config, device) = (files.config(), gpu.preview());
    let (Selection { choices, .. }, dims) = prepare(config, options, &device)?;
    check_budget(config, options, &device, dims.plan())?;
    let weights = Weights::load(gpu, config, files.checkpoint(), options.dtype, progress);
    if weights.is_err() {
        // wgpu keeps freed buffers alive until the uploads to them complete. An error of the
        // flush is ignored, because the first error is the one to report.
        let _ = gpu.flush();
    }
    let (config, options, gpu) = (config.clone(), options.clone(), Arc::clone(gpu));
    Ok(Model { config, options, choices, weights: weights?, gpu })
}

/// Searches with a loaded model and stores the choice. `held` is the part of the memory
/// budget that the model already takes.
fn tune_loaded(
    model: &Model,
    held: MemoryPlan,
    budget: Budget,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    let gpu = &model.gpu;
    let tuning = tune::run(model, held, budget, progress, cancel)?;
    for dropped in &tuning.dropped {
        gpu.warn(dropped.to_string());
    }
    if let Some(dir) = gpu.options().cache_dir.as_ref().filter(|_| !tuning.ops.is_empty()) {
        let key = Key::new(gpu.report(), &gpu.capabilities(), tuned_shapes(&model.config, &model.options));
        if let Err(error) = cache::store(dir, &key, &tuning) {
            gpu.warn(format!("tuned choices: {error}"));
        }
        gpu.save_pipelines();
    }
    Ok(tuning)
}

impl Engine {
    /// The implementation of each operation.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn choices(&self) -> Choices {
        self.shared.bound().model.choices
    }

    /// Faults so far that stopped no work, one line each. They belong to this engine and
    /// to others on its device: cache files that were ignored or could not be written,
    /// and kernels that failed their check during tuning.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared.bound().model.gpu.warnings()
    }

    /// Whether the cache had tuned choices for the model when it was loaded.
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.shared.bound().tuned
    }

    /// Like [`tune_model`], for this model. This engine keeps its kernels; engines loaded
    /// afterwards use the new choice.
    ///
    /// # Errors
    /// As [`tune_model`].
    pub fn tune(
        &self,
        budget: Budget,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Tuning> {
        let bound = self.shared.bound();
        let mut held = bound.dims.plan();
        let (planned, pages) = (held.group_bytes(MemoryGroup::KvCache), self.shared.lock().cache().bytes());
        let bytes = pages.saturating_sub(planned);
        held.entries.push(PlanEntry { group: MemoryGroup::KvCache, name: "grown_pages", bytes });
        tune_loaded(&bound.model, held, budget, progress, cancel)
    }
}
