//! The program, its environment, its files: what a report tells beside the GPU, and
//! what it must not tell.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::gpu::{Gpu, WGPU_VERSION};
use crate::kernels;
use crate::tune::Shapes;
use crate::tune::cache::{self, Key};

/// Versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Of this library.
    pub wgpt: &'static str,
    /// Of wgpu.
    pub wgpu: &'static str,
    /// [`kernels::source_hash`].
    pub kernels: String,
    /// Whether the build embeds the demo model.
    pub demo_model: bool,
}

impl Program {
    pub(super) fn this() -> Self {
        Program {
            wgpt: env!("CARGO_PKG_VERSION"),
            wgpu: WGPU_VERSION,
            kernels: kernels::source_hash(),
            demo_model: cfg!(feature = "demo-model"),
        }
    }
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// The variables that wgpt, wgpu, the Vulkan loader and Mesa's software driver read
/// and that decide which adapter runs and how, or where files are kept.
pub const VARIABLES: [&str; 26] = [
    "WGPT_DEVICE",
    "WGPT_CACHE_DIR",
    "WGPT_CHAT_HISTORY",
    "WGPT_TUNE_SECONDS",
    "WGPU_VALIDATION",
    "WGPU_DEBUG",
    "WGPU_DISCARD_HAL_LABELS",
    "WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER",
    "WGPU_GPU_BASED_VALIDATION",
    "WGPU_VALIDATION_INDIRECT_CALL",
    "WGPU_STRICT_WEBGPU_COMPLIANCE",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_ADD_DRIVER_FILES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "VK_INSTANCE_LAYERS",
    "VK_LAYER_PATH",
    "MESA_VK_DEVICE_SELECT",
    "MESA_SHADER_CACHE_DISABLE",
    "DRI_PRIME",
    "GALLIVM_PERF",
    "LP_NATIVE_VECTOR_WIDTH",
    "LP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
];

pub(super) fn variables() -> Vec<Variable> {
    let set = VARIABLES.into_iter().filter_map(|name| {
        let value = shown(&std::env::var_os(name)?.to_string_lossy());
        Some(Variable { name, value })
    });
    set.collect()
}

/// A file of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheFile {
    /// Where it is or would be.
    pub path: String,
    /// Its size; `None` where there is none.
    pub bytes: Option<u64>,
}

impl CacheFile {
    fn at(path: &Path) -> Self {
        let bytes = std::fs::metadata(path).ok().map(|metadata| metadata.len());
        CacheFile { path: shown(&path.to_string_lossy()), bytes }
    }
}

/// Where tuned choices and pipelines are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// The directory; `None` where nothing is kept.
    pub dir: Option<String>,
    /// Whether it was there before the check-up.
    pub exists: bool,
    /// Whether files can be written into it.
    pub writable: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// The adapter's compiled pipelines: Vulkan's alone are kept.
    pub pipelines: Option<CacheFile>,
    /// The model's tuned choices on this adapter.
    pub choices: Option<CacheFile>,
    /// Whether these are in use.
    pub tuned: bool,
}

impl Cache {
    /// Of a directory.
    pub(super) fn of(dir: Option<&PathBuf>) -> Self {
        let Some(dir) = dir else { return Cache::default() };
        let exists = dir.is_dir();
        let problem = cache::check_writable(dir).err().map(|error| shown(&error.to_string()));
        let sizes = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let sizes = sizes.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
        Cache {
            dir: Some(shown(&dir.to_string_lossy())),
            exists,
            writable: problem.is_none(),
            problem,
            bytes: sizes.map(|metadata| metadata.len()).sum(),
            ..Cache::default()
        }
    }

    /// Adds the files of an open device.
    pub(super) fn look_for(&mut self, gpu: &Gpu, shapes: &Shapes) {
        self.pipelines = gpu.pipeline_cache_file().map(|path| CacheFile::at(&path));
        let key = Key::new(gpu.report(), &gpu.capabilities(), shapes.clone());
        let choices = gpu.options().cache_dir.as_ref().and_then(|dir| cache::file(dir, &key).ok());
        self.choices = choices.map(|path| CacheFile::at(&path));
    }
}

/// `text` as a report shows it to strangers: control characters but line feeds
/// escaped, the home directory as `~`.
pub(super) fn shown(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        if c.is_control() && c != '\n' { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
    });
    without_home(&escaped.collect::<String>(), std::env::home_dir().as_deref())
}

/// `text` with `~` for `home`.
fn without_home(text: &str, home: Option<&Path>) -> String {
    // "/" is nobody's home, and would be found everywhere.
    let Some(home) = home.filter(|home| home.components().count() > 1) else { return text.to_owned() };
    let home = home.to_string_lossy();
    let home = home.trim_end_matches(['/', '\\']);
    let mut rest = text;
    let mut parts = String::new();
    while let Some((before, behind)) = rest.split_once(home) {
        parts += before;
        // /home/anna is no part of /home/annabel.
        let whole = !behind.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        parts += if whole { "~" } else { home };
        rest = behind;
    }
    parts + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_directory_is_not_told() {
        let shown = |text| without_home(text, Some(Path::new("/home/anna/")));
        assert_eq!(shown("/home/anna/.cache/wgpt"), "~/.cache/wgpt");
        assert_eq!(shown("a /home/anna and '/home/anna/x'"), "a ~ and '~/x'");
        assert_eq!(shown("/home/annabel/x:/home/anna"), "/home/annabel/x:~");
        assert_eq!(without_home("/a/b", Some(Path::new("/"))), "/a/b");
        assert_eq!(without_home("/a/b", None), "/a/b");
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(shown("red \u{1b}[31m\nand\ttab"), "red \\u{1b}[31m\nand\\ttab");
    }

    #[test]
    fn a_cache_is_described_as_it_is() {
        assert_eq!(Cache::of(None), Cache::default());
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let cache = Cache::of(Some(&inner));
        assert!(!cache.exists && cache.writable && cache.problem.is_none() && cache.bytes == 0, "{cache:?}");
        std::fs::write(inner.join("x"), "12345").unwrap();
        let cache = Cache::of(Some(&inner));
        assert!(cache.exists && cache.writable && cache.bytes == 5, "{cache:?}");
        let cache = Cache::of(Some(&inner.join("x")));
        assert!(!cache.exists && !cache.writable && cache.problem.unwrap().contains("cannot write"));
    }
}
