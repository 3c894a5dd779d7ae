//! Selects the kernels that a model runs: the tuned choices and the forced variants.

use std::sync::atomic::AtomicBool;

use super::Engine;
use crate::conformance::Shapes;
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Capabilities, Gpu, GpuOptions};
use crate::kernels::{Choices, Op};
use crate::model::{Decoder, ModelOptions};
use crate::tune::cache::{self, Found, Key};
use crate::tune::{self, Budget, Progress, Tuning};

/// The sizes of a model that kernels are tuned for.
#[must_use]
pub fn tuned_shapes(config: &Decoder, options: &ModelOptions) -> Shapes {
    Shapes {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.attention.n_head,
        n_kv_head: config.attention.n_kv_head,
        head_dim: config.attention.head_dim,
        n_inner: config.mlp.n_inner,
        vocab_size: config.vocab_size,
        n_positions: config.n_positions,
        chunk: options.prefill_chunk.clamp(1, config.n_positions.max(1)),
        norm: config.norms.kind,
        gated: config.is_gated(),
        rotary: !config.attention.ropes.is_empty(),
        dtype: options.dtype,
        kv_dtype: options.kv_dtype,
    }
}

/// The kernels that a model runs, and where the choice comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The implementation of each operation.
    pub choices: Choices,
    /// Whether the cache had choices for this model on this device.
    pub tuned: bool,
    /// Why a cache file was ignored, or which kernel runs although it failed its check.
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
    // Forced, or the default because nothing better passed.
    let failed = Op::ALL.map(|op| choices.get(op).to_string()).into_iter();
    if let Some((name, reason)) = failed.filter_map(|name| dropped.get_key_value(&name)).next() {
        warning = Some(format!("variant {name} failed its check on this driver when it was tuned: {reason}"));
    }
    Ok(Selection { choices, tuned: tuned.is_some(), warning })
}

/// Searches for the fastest kernels for a model on a device and stores the choice in
/// [`GpuOptions::cache_dir`], if one is set. Models loaded afterwards use it. No weights
/// are needed. A directory that cannot be written and kernels that failed their check are
/// reported as warnings ([`Gpu::warnings`]).
///
/// # Errors
/// As [`tune::run`]; nothing is stored then.
pub fn tune_model(
    gpu: &Gpu,
    config: &Decoder,
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
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn choices(&self) -> Choices {
        self.shared.bound().model.choices
    }

    /// Faults so far that stopped no work, of this engine and of others on its device: cache
    /// files that were ignored or could not be written, kernels that failed their check when
    /// they were tuned. One line each.
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
        let model = &bound.model;
        tune_model(&model.gpu, &model.config, &model.options, budget, progress, cancel)
    }
}
