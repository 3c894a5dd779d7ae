//! The program, its environment and its files: the parts of a report apart from the GPU,
//! and the parts that it must hide.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::conformance::Shapes;
use crate::gpu::{Gpu, WGPU_VERSION};
use crate::kernels;
use crate::tune::cache::{self, Key};

/// Versions of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Version of this library.
    pub wgpt: &'static str,
    /// Version of wgpu.
    pub wgpu: &'static str,
    /// Hash of the kernel sources, from [`kernels::SOURCE_HASH`].
    pub kernels: String,
    /// Whether the build embeds the demo model.
    pub demo_model: bool,
}

impl Program {
    pub(super) fn this() -> Self {
        Program {
            wgpt: env!("CARGO_PKG_VERSION"),
            wgpu: WGPU_VERSION,
            kernels: kernels::SOURCE_HASH.to_owned(),
            demo_model: cfg!(feature = "demo-model"),
        }
    }
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Name of the variable.
    pub name: &'static str,
    /// Value of the variable.
    pub value: String,
}

/// Environment variables that decide which adapter runs, how it runs, or where files are
/// stored. wgpt, wgpu, the Vulkan loader and Mesa's software driver read them.
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
    /// Path of the file, whether or not it exists.
    pub path: String,
    /// Size in bytes; `None` if the file does not exist.
    pub bytes: Option<u64>,
}

impl CacheFile {
    fn at(path: &Path) -> Self {
        let bytes = std::fs::metadata(path).ok().map(|metadata| metadata.len());
        CacheFile { path: shown(&path.to_string_lossy()), bytes }
    }
}

/// Directory of tuned choices and compiled pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Path of the directory; `None` if nothing is cached.
    pub dir: Option<String>,
    /// Whether the directory existed before the check-up.
    pub exists: bool,
    /// Whether files can be written to it.
    pub writable: bool,
    /// Reason why files cannot be written.
    pub problem: Option<String>,
    /// Total size of the files in it, in bytes.
    pub bytes: u64,
    /// File of the adapter's compiled pipelines. Pipelines are cached only under Vulkan.
    pub pipelines: Option<CacheFile>,
    /// File of the model's tuned choices on this adapter.
    pub choices: Option<CacheFile>,
    /// Whether the tuned choices are in use.
    pub tuned: bool,
}

impl Cache {
    /// Describes a cache directory.
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

    /// Adds the cache files of an open device.
    pub(super) fn look_for(&mut self, gpu: &Gpu, shapes: &Shapes) {
        self.pipelines = gpu.pipeline_cache_file().map(|path| CacheFile::at(&path));
        let key = Key::new(gpu.report(), &gpu.capabilities(), shapes.clone());
        let choices = gpu.options().cache_dir.as_ref().and_then(|dir| cache::file(dir, &key).ok());
        self.choices = choices.map(|path| CacheFile::at(&path));
    }
}

/// Returns `text` in a form that is safe to publish: control characters except line feeds
/// are escaped, and the home directory becomes `~`.
pub(super) fn shown(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        if c.is_control() && c != '\n' { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
    });
    without_home(&escaped.collect::<String>(), std::env::home_dir().as_deref())
}

/// Returns `text` with `home` replaced by `~`.
fn without_home(text: &str, home: Option<&Path>) -> String {
    // "/" is not a home directory, and it would match everywhere.
    let Some(home) = home.filter(|home| home.components().count() > 1) else { return text.to_owned() };
    let home = home.to_string_lossy();
    let home = home.trim_end_matches(['/', '\\']);
    let mut rest = text;
    let mut parts = String::new();
    while let Some((before, after)) = rest.split_once(home) {
        parts += before;
        // /home/anna must not match the beginning of /home/annabel.
        let whole = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        parts += if whole { "~" } else { home };
        rest = after;
    }
    parts + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_directory_is_hidden() {
        let shown = |text| without_home(text, Some(Path::new("/home/anna/")));
        assert_eq!(shown("/home/anna/.cache/wgpt"), "~/.cache/wgpt");
        assert_eq!(shown("a /home/anna and '/home/anna/x'"), "a ~ and '~/x'");
        assert_eq!(shown("/home/annabel/x:/home/anna"), "/home/annabel/x:~");
        assert_eq!(without_home("/a/b", Some(Path::new("/"))), "/a/b");
        assert_eq!(without_home("/a/b", None), "/a/b");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(shown("red \u{1b}[31m\nand\ttab"), "red \\u{1b}[31m\nand\\ttab");
    }

    #[test]
    fn the_state_of_a_cache_is_described() {
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
