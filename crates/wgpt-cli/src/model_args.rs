//! The flags shared by every command with a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgAction;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use wgpt::internals::kernels::Candidate;
use wgpt::internals::model::{Decoder, STEPS_AHEAD_MAX, random};
use wgpt::{
    AdapterReport, Backend, CancelFlag, DType, Engine, Error, Gpu, GpuOptions, ModelFiles, ModelOptions,
};

use super::output::note;
use super::progress::LoadBars;
use super::tune;

/// The model, the device, and how the model runs on the device.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Model directory in Hugging Face layout: config.json, model.safetensors (or an
    /// index and shards), tokenizer.json [default: the embedded demo model]
    #[arg(short, long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Run a model with random weights, which are computed while it is loaded, so no file
    /// is needed. SHAPE is gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, demo,
    /// smollm2-135m, smollm2-360m, tinyllama-1.1b, llama-3.2-1b, llama-3.2-3b or
    /// llama-3.1-8b. Sizes may follow the name, or replace it for a GPT-2, as in
    /// n_layer=2,n_embd=768,n_head=12,n_inner=3072,vocab_size=50257,n_positions=1024
    #[arg(long, value_name = "SHAPE", conflicts_with = "model", value_parser = random_shape)]
    pub random: Option<Box<Decoder>>,
    /// Seed of the random weights
    #[arg(long, value_name = "N", requires = "random", default_value_t = 0)]
    pub random_seed: u64,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How and on which device any model runs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct RunArgs {
    /// Type of the weights on the GPU
    #[arg(long, value_name = "DTYPE", default_value = "f16", value_parser = dtype())]
    pub dtype: DType,
    /// Type of the cached keys and values
    #[arg(long, value_name = "DTYPE", default_value = "f16", value_parser = dtype())]
    pub kv_dtype: DType,
    /// Size of the context in tokens [default: the model's, but at most 8192]
    #[arg(short, long, value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Prompt tokens to process at once; fewer need less memory
    #[arg(long, value_name = "N", default_value_t = ModelOptions::default().prefill_chunk)]
    pub prefill_chunk: usize,
    /// Decode steps to encode ahead, with the sampler on the GPU; 0 samples on the CPU
    /// [default: 4; 0 on CPU adapters]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=STEPS_AHEAD_MAX as i64))]
    pub steps_ahead: Option<u8>,
    /// GPU memory that the model may use, such as 2GiB or 500MB. A model that does not
    /// fit is refused before anything is allocated, and the error lists changes that
    /// would fit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_budget: Option<u64>,
    /// Compute the same bits regardless of how a text is split into chunks; slower
    #[arg(long)]
    pub deterministic: bool,
    /// Stop and report the layer and position if a key or a value is too large for f16
    /// when it is written to the KV cache. With this check, the program waits after every
    /// chunk of a prompt. On by default only in debug builds
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value_t = ModelOptions::default().detect_overflow)]
    pub detect_overflow: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub kernels: KernelArgs,
}

/// Which adapter to use, and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Index of an adapter or part of its name, as `wgpt devices` lists them
    #[arg(long, value_name = "INDEX|NAME", env = "WGPT_DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub api: BackendArg,
    /// Use only what every adapter offers: no f16, no subgroups, no timestamps, default
    /// limits
    #[arg(long)]
    pub features_floor: bool,
}

/// Which API's adapters to use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct BackendArg {
    /// Use only adapters of this API
    #[arg(long, value_name = "API", value_parser = backend())]
    pub backend: Option<Backend>,
}

/// Which kernels run on the device, and where their choice is kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct KernelArgs {
    /// Run this implementation of an operation, such as gemm=tile_64x64, instead of the
    /// one chosen for the device; may be repeated
    #[arg(long, value_name = "OP=NAME", value_parser = variant)]
    pub variant: Vec<&'static Candidate>,
    /// Directory of the cache of tuned kernel choices and compiled pipelines; an empty
    /// DIR disables the cache [default: wgpt in the platform's cache directory]
    #[arg(long, value_name = "DIR", env = "WGPT_CACHE_DIR")]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub cache_dir: Option<PathBuf>,
}

/// Accepts the names of the element types.
pub fn dtype() -> ValueParser {
    PossibleValuesParser::new([DType::F16.name(), DType::F32.name()]).try_map(|s| s.parse::<DType>()).into()
}

/// Parses a size in bytes: a number, optionally followed by B, KiB, MiB, GiB (powers of
/// 1024), kB, MB or GB.
fn size(s: &str) -> Result<u64, String> {
    let expected = || format!("{s:?}: expected a size such as 500MB, 1.5GiB or 1073741824");
    let digits = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
    let (number, unit) = s.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(expected()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(expected);
    }
    let number: f64 = number.parse().map_err(|_| expected())?;
    let bytes = number * factor as f64;
    // A number with a decimal point has no more digits than an f64 holds.
    if bytes < 2f64.powi(53) { Ok(bytes as u64) } else { Err(expected()) }
}

fn variant(s: &str) -> Result<&'static Candidate, Error> {
    s.parse()
}

/// Accepts the names of the APIs.
fn backend() -> ValueParser {
    let names = [Backend::Vulkan, Backend::Metal, Backend::Dx12].map(Backend::name);
    PossibleValuesParser::new(names).try_map(|s| s.parse::<Backend>()).into()
}

impl RunArgs {
    /// Returns the options to open the device with.
    pub fn gpu_options(&self) -> GpuOptions {
        GpuOptions {
            device: self.device.device.clone(),
            backend: self.device.api.backend,
            features_floor: self.device.features_floor,
            cache_dir: self.cache_dir(),
            ..GpuOptions::default()
        }
    }

    /// Returns the cache directory; `None` if the user disabled the cache or has no home
    /// directory.
    fn cache_dir(&self) -> Option<PathBuf> {
        match &self.kernels.cache_dir {
            Some(dir) => Some(dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
            None => Some(choose_native_strategy().ok()?.cache_dir().join("wgpt")),
        }
    }

    /// Returns the options to run the model with.
    pub fn model_options(&self) -> ModelOptions {
        ModelOptions {
            dtype: self.dtype,
            kv_dtype: self.kv_dtype,
            deterministic: self.deterministic,
            n_ctx: self.ctx_size,
            prefill_chunk: self.prefill_chunk,
            variants: self.kernels.variant.clone(),
            steps_ahead: self.steps_ahead.map(usize::from),
            memory_budget: self.memory_budget,
            detect_overflow: self.detect_overflow,
            ..ModelOptions::default()
        }
    }

    /// Opens the device and prints notices to stderr.
    pub fn open_gpu(&self) -> Result<Arc<Gpu>, Error> {
        let gpu = Arc::new(Gpu::open(&self.gpu_options())?);
        for line in notices(gpu.report()) {
            note(&line);
        }
        Ok(gpu)
    }
}

impl ModelArgs {
    /// Returns the options to open the device with.
    pub fn gpu_options(&self) -> GpuOptions {
        self.run.gpu_options()
    }

    /// Returns the options to run the model with.
    pub fn model_options(&self) -> ModelOptions {
        self.run.model_options()
    }

    /// Opens and checks the model's files, or describes random weights.
    pub fn open_files(&self) -> Result<Arc<ModelFiles>, Error> {
        if let Some(config) = &self.random {
            return ModelFiles::random((**config).clone(), self.random_seed).map(Arc::new);
        }
        let builder = Engine::builder();
        match &self.model {
            Some(dir) => builder.model(dir).open_files(),
            None => builder.open_files(),
        }
    }

    /// Opens the device and loads the model, with progress bars and notices on stderr.
    pub fn load(&self, files: Arc<ModelFiles>, cancel: &CancelFlag) -> Result<Engine, Error> {
        let gpu = self.run.open_gpu()?;
        load(files, gpu, &self.model_options(), cancel)
    }
}

/// Opens the model that an argument names: a directory, one weights file with the model's
/// other files next to it, or `demo` for the embedded model unless a path has that name.
pub fn open_model(path: &Path) -> Result<Arc<ModelFiles>, Error> {
    if path.is_file() {
        return ModelFiles::open_weights(path).map(Arc::new);
    }
    if path == Path::new("demo") && !path.exists() {
        return Engine::builder().open_files();
    }
    ModelFiles::open(path).map(Arc::new)
}

/// Loads a model onto an open device, with progress bars and notices on stderr.
pub fn load(
    files: Arc<ModelFiles>,
    gpu: Arc<Gpu>,
    options: &ModelOptions,
    cancel: &CancelFlag,
) -> Result<Engine, Error> {
    let mut bars = LoadBars::new(cancel.clone());
    let engine = Engine::load(files, gpu, options, &mut |progress| bars.update(progress))?;
    tune::warn(&engine.gpu());
    Ok(engine)
}

/// Returns notices about the adapter that a user should see before waiting for it.
pub fn notices(report: &AdapterReport) -> Vec<String> {
    let mut lines = Vec::new();
    if report.is_software() {
        lines.push(format!("note: running on a software adapter, {} ({})", report.name, report.driver_info));
    }
    if let Some(compiler) = &report.shader_compiler {
        lines.push(format!("note: DX12 shader compiler: {compiler}"));
    }
    lines
}

/// Parses a shape and boxes it, because clap moves argument values around.
fn random_shape(text: &str) -> Result<Box<Decoder>, Error> {
    random::shape(text).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        let cases = [
            ("1073741824", 1 << 30),
            ("2GiB", 2 << 30),
            ("2 GiB", 2 << 30),
            ("1.5gib", 3 << 29),
            ("500MB", 500_000_000),
            ("12k", 12 << 10),
            ("0", 0),
            ("0.5kB", 500),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "GiB", "-1", "1.2.3MB", "5TB", "99999999999GiB", "1e9", "nan", ".", "99999999999.5GiB"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
