//! The memory that a model needs on a device, computed before allocation, and the options
//! that would fit a budget.

use super::tuning::{self, Selection};
use super::{Engine, ModelFiles};
use crate::error::{Error, Result};
use crate::gpu::DevicePreview;
use crate::kernels::Choices;
use crate::memory::{Change, Fit, MemoryPlan, OverBudget};
use crate::model::{Decoder, Dims, ModelOptions};
use crate::tensor::DType;

/// Returns the kernels and sizes that a model would run with on a device. Loading selects
/// them before it allocates. Reads one small file of the cache.
///
/// # Errors
/// As [`tuning::select`] and [`Dims::new`].
pub fn prepare(
    config: &Decoder,
    options: &ModelOptions,
    device: &DevicePreview,
) -> Result<(Selection, Dims)> {
    let adapter = device.adapter.as_ref();
    let selection = tuning::select(adapter, &device.capabilities, &device.options, config, options)?;
    let dims = dims(config, options, device, &selection.choices)?;
    Ok((selection, dims))
}

fn dims(config: &Decoder, options: &ModelOptions, device: &DevicePreview, choices: &Choices) -> Result<Dims> {
    Dims::new(config, options, &device.capabilities, choices, device.max_binding_bytes)
}

/// Compares a plan with [`ModelOptions::memory_budget`].
///
/// # Errors
/// [`Error::Budget`] if the plan exceeds it, with options that would fit.
pub fn check_budget(
    config: &Decoder,
    options: &ModelOptions,
    device: &DevicePreview,
    plan: MemoryPlan,
) -> Result<()> {
    match options.memory_budget {
        Some(budget_bytes) if plan.total_bytes() > budget_bytes => {
            let search = Search { config, device, budget_bytes };
            Err(Error::Budget(Box::new(search.over(options, plan))))
        }
        _ => Ok(()),
    }
}

impl Engine {
    /// Plans the exact GPU memory that loading would take, by group, without opening or
    /// allocating anything. `device` describes the device. Use [`DevicePreview::of`] for
    /// [`crate::GpuOptions`], [`DevicePreview::of_adapter`] for an adapter of the host
    /// program, `gpu.preview()` for an open device, or [`DevicePreview::floor`].
    ///
    /// # Errors
    /// [`Error::Budget`] if the plan exceeds the memory budget of the options, with the
    /// plan and the options that would fit; [`Error::Limits`] if the device cannot hold the
    /// model; [`Error::Input`] for options that no device supports.
    pub fn plan(files: &ModelFiles, options: &ModelOptions, device: &DevicePreview) -> Result<MemoryPlan> {
        let (_, dims) = prepare(files.config(), options, device)?;
        let plan = dims.plan();
        check_budget(files.config(), options, device, plan.clone())?;
        Ok(plan)
    }

    /// The memory plan from loading. If sessions together need more pages than one
    /// context, they add pages beyond the plan while they exist.
    #[must_use]
    pub fn memory_plan(&self) -> MemoryPlan {
        self.shared.bound().dims.plan()
    }
}

/// Searches for options that fit the budget.
struct Search<'a> {
    config: &'a Decoder,
    device: &'a DevicePreview,
    budget_bytes: u64,
}

impl Search<'_> {
    fn over(&self, options: &ModelOptions, plan: MemoryPlan) -> OverBudget {
        let context = self.longest_context(options);
        let mut fits: Vec<Fit> = context.into_iter().collect();
        let mut smallest = options.clone();
        let mut all = Vec::new();
        let mut single_change = |option: &ModelOptions, change| {
            fits.extend(self.fit(option, &[change]));
            all.push(change);
        };
        if options.kv_dtype == DType::F32 {
            smallest.kv_dtype = DType::F16;
            single_change(
                &ModelOptions { kv_dtype: DType::F16, ..options.clone() },
                Change::KvDtype(DType::F16),
            );
        }
        if options.dtype == DType::F32 {
            smallest.dtype = DType::F16;
            single_change(&ModelOptions { dtype: DType::F16, ..options.clone() }, Change::Dtype(DType::F16));
        }
        fits.extend(self.largest_chunk(options));
        if options.prefill_chunk > SMALLEST_CHUNK {
            smallest.prefill_chunk = SMALLEST_CHUNK;
            all.push(Change::PrefillChunk(SMALLEST_CHUNK));
        }
        if fits.is_empty() && !all.is_empty() {
            fits.extend(self.fit(&smallest, &all).or_else(|| {
                let Fit { changes, total_bytes } = self.longest_context(&smallest)?;
                Some(Fit { changes: [all, changes].concat(), total_bytes })
            }));
        }
        let minimum = self.bytes(&ModelOptions { n_ctx: Some(1), ..smallest });
        let least_bytes = minimum.unwrap_or_else(|| plan.total_bytes());
        OverBudget { plan, budget_bytes: self.budget_bytes, fits, least_bytes }
    }

    /// The memory that the options take; `None` if the options are impossible.
    fn bytes(&self, options: &ModelOptions) -> Option<u64> {
        let (_, dims) = prepare(self.config, options, self.device).ok()?;
        Some(dims.plan().total_bytes())
    }

    fn fit(&self, options: &ModelOptions, changes: &[Change]) -> Option<Fit> {
        let total_bytes = self.bytes(options)?;
        (total_bytes <= self.budget_bytes).then(|| Fit { changes: changes.to_vec(), total_bytes })
    }

    /// The longest context that fits if nothing else changes. Memory may not grow with
    /// the context, because some buffers are capped at a binding's limit. Every length is
    /// therefore tried.
    fn longest_context(&self, options: &ModelOptions) -> Option<Fit> {
        let choices = prepare(self.config, options, self.device).ok()?.0.choices;
        let n_ctx = options.n_ctx.unwrap_or(self.config.default_n_ctx());
        (1..n_ctx).rev().find_map(|n_ctx| {
            let options = ModelOptions { n_ctx: Some(n_ctx), ..options.clone() };
            let total_bytes = dims(self.config, &options, self.device, &choices).ok()?.plan().total_bytes();
            (total_bytes <= self.budget_bytes)
                .then(|| Fit { changes: vec![Change::Context(n_ctx)], total_bytes })
        })
    }

    /// The largest power of two that fits as the chunk size, if nothing else changes.
    fn largest_chunk(&self, options: &ModelOptions) -> Option<Fit> {
        let halves = std::iter::successors(Some(CHUNK_MAX), |chunk| Some(chunk / 2));
        halves
            .take_while(|&chunk| chunk >= SMALLEST_CHUNK)
            .filter(|&chunk| chunk < options.prefill_chunk)
            .find_map(|chunk| {
                let options = ModelOptions { prefill_chunk: chunk, ..options.clone() };
                self.fit(&options, &[Change::PrefillChunk(chunk)])
            })
    }
}

/// Smaller chunks have fewer rows than a gemm tile, and their prefill is slow.
const SMALLEST_CHUNK: usize = 32;
const CHUNK_MAX: usize = 1 << 12;
