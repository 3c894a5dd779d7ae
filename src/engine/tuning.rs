//! Which implementations a model runs: what was tuned for it, what is forced.

use std::sync::atomic::AtomicBool;

use super::Engine;
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Capabilities, Gpu, GpuOptions};
use crate::kernels::{Choices, Op};
use crate::model::{Gpt2Config, ModelOptions};
use crate::tune::cache::{self, Found, Key};
use crate::tune::{self, Budget, Progress, Shapes, Tuning};

/// The sizes of a model that kernels are tuned for.
#[must_use]
pub fn tuned_shapes(config: &Gpt2Config, options: &ModelOptions) -> Shapes {
    Shapes {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.n_head,
        head_dim: config.head_dim(),
        n_inner: config.n_inner,
        gated: false,
        rotary: false,
        vocab_size: config.vocab_size,
        n_positions: config.n_positions,
        chunk: options.prefill_chunk.clamp(1, config.n_positions.max(1)),
        dtype: options.dtype,
        kv_dtype: options.kv_dtype,
    }
}

/// What a model runs with, and where that comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The implementation of each operation.
    pub choices: Choices,
    /// Whether the cache had choices for the model on this device.
    pub tuned: bool,
    /// Why a file of the cache was ignored, or what runs though it failed its check.
    pub warning: Option<String>,
}

/// What a model runs with on a device: the defaults, in front of them what the
/// cache ([`GpuOptions::cache_dir`]) has, in front of that what
/// [`ModelOptions::variants`] forces. This reads one small file; nothing is
/// measured. Deterministic models take no tuned choices: their bits shall not
/// depend on a measurement.
///
/// # Errors
/// [`crate::Error::Input`] for a forced implementation that the device cannot run.
pub fn select(
    adapter: Option<&AdapterReport>,
    device: &Capabilities,
    gpu: &GpuOptions,
    config: &Gpt2Config,
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
            "variant {forced}: this model must not run it; --deterministic bars sums that depend on the number of \
             rows, --dtype f32 what rounds to f16, and of two variants of an operation one runs"
        )));
    }
    // Forced, or the default where nothing better passed.
    let failed = Op::ALL.map(|op| choices.get(op).to_string()).into_iter();
    if let Some((name, reason)) = failed.filter_map(|name| dropped.get_key_value(&name)).next() {
        warning = Some(format!("variant {name} failed its check on this driver when it was tuned: {reason}"));
    }
    Ok(Selection { choices, tuned: tuned.is_some(), warning })
}

/// Searches the fastest implementations for a model on a device and keeps the
/// choice in [`GpuOptions::cache_dir`] where one was named; models that are loaded
/// afterwards run with it. No weights are needed. A directory that cannot be
/// written, and what failed its check, are warnings ([`Gpu::take_warnings`]).
///
/// # Errors
/// As [`tune::run`]; nothing is kept then.
pub fn tune_model(
    gpu: &Gpu,
    config: &Gpt2Config,
    options: &ModelOptions,
    budget: Budget,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    let shapes = tuned_shapes(config, options);
    let tuning = tune::run(gpu, &shapes, budget, progress, cancel)?;
    for dropped in &tuning.dropped {
        gpu.warn(dropped.to_string());
    }
    if let Some(dir) = gpu.options().cache_dir.as_ref().filter(|_| !tuning.ops.is_empty()) {
        let key = Key::new(gpu.report(), &gpu.capabilities(), shapes);
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
    pub fn choices(&self) -> Choices {
        self.shared.bound().model.choices
    }

    /// Whether the cache had tuned choices for the model when it was loaded.
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.shared.bound().tuned
    }

    /// As [`tune_model`], for this model. This engine goes on as it is; the next
    /// one that is loaded runs with the choice.
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
        let model = &bound.model;
        tune_model(&bound.gpu, &model.config, &model.options, budget, progress, cancel)
    }
}
