//! Compiled pipelines cached on disk. Only Vulkan drivers provide their data.
//!
//! The file is written after a load that compiled something new. It begins with a digest
//! of adapter, driver and data, so only data of this device reach the driver. lavapipe
//! has no benefit, because Mesa has its own cache.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{AdapterReport, Call, Gpu, unchecked};
use crate::error::{Error, Result};
use crate::files;

/// The first bytes of the file: its kind and the version of its format.
const MAGIC: &[u8; 8] = b"wgptpc01";
const DIGEST_BYTES: usize = 32;
/// Largest file size in bytes: some hundred pipelines of up to 1 MB each.
const BYTES_MAX: u64 = 1 << 30;

/// A device's pipeline cache and its file.
#[derive(Debug)]
pub(super) struct PipelineCache {
    pub(super) raw: wgpu::PipelineCache,
    dir: PathBuf,
    name: String,
    /// The adapter, driver and wgpu version that the data belong to.
    owner: String,
    /// The digest of the data in the file; `None` if there is no usable file.
    stored: Mutex<Option<[u8; DIGEST_BYTES]>>,
}

impl PipelineCache {
    /// Reads the adapter's cache file in `dir`. Returns `None` if the device has no
    /// pipeline cache.
    pub(super) fn open(gpu: &Gpu, info: &wgpu::AdapterInfo, dir: &Path) -> Option<Self> {
        if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(info)?;
        let AdapterReport { name, driver, driver_info, .. } = gpu.report();
        let owner = format!("{key}\n{name}\n{driver}\n{driver_info}\nwgpu {}", super::WGPU_VERSION);
        let digest = Sha256::digest(&owner);
        // A new driver gets a new file, because it cannot use the old driver's pipelines.
        let name = format!("{key}-{}.bin", files::hex(&digest[..4]));
        let path = dir.join(&name);
        let data = match files::read_if_present(&path, BYTES_MAX) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let data = unseal(&owner, &bytes).map(<[u8]>::to_vec);
                if data.is_none() {
                    let what = "it is damaged or belongs to another device, and will be replaced";
                    gpu.warn(format!("pipeline cache {}: {what}", path.display()));
                }
                data
            }
            Err(error) => {
                gpu.warn(format!("pipeline cache {}: {error}; the file is ignored", path.display()));
                None
            }
        };
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("wgpt"),
            data: data.as_deref(),
            // If wgpu or the driver rejects the data, the cache starts empty.
            fallback: true,
        };
        let create = || unchecked::pipeline_cache(&gpu.device, &descriptor);
        match gpu.guarded(Call::Allocate, "create pipeline cache", create) {
            Ok(raw) => {
                let stored = Mutex::new(data.map(|data| Sha256::digest(&data).into()));
                Some(PipelineCache { raw, dir: dir.to_owned(), name, owner, stored })
            }
            Err(error) => {
                gpu.warn(format!("{error}; compiled pipelines are not kept"));
                None
            }
        }
    }

    /// Writes the file if the pipelines have changed. Returns whether it was written.
    fn save(&self) -> Result<bool> {
        let Some(data) = self.raw.get_data() else { return Ok(false) };
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(&data).into();
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if *stored == Some(digest) {
            return Ok(false);
        }
        files::write(&self.dir, &self.name, &seal(&self.owner, &data))?;
        *stored = Some(digest);
        Ok(true)
    }
}

impl Gpu {
    /// Saves the pipelines compiled so far to
    /// [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir), for the next time the
    /// device is opened. Returns whether a file was written. It writes nothing if no
    /// directory was given, if the device provides no pipeline data (only Vulkan does),
    /// or if nothing has changed. A directory that cannot be written causes only a
    /// warning ([`Gpu::warnings`]).
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn save_pipelines(&self) -> bool {
        let Some(cache) = &self.pipeline_cache else { return false };
        cache.save().unwrap_or_else(|error: Error| {
            self.warn(format!("pipeline cache: {error}"));
            false
        })
    }

    /// Returns the path that [`Gpu::save_pipelines`] writes, whether or not the file
    /// exists; `None` if it would not write any.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn pipeline_cache_file(&self) -> Option<PathBuf> {
        self.pipeline_cache.as_ref().map(|cache| cache.dir.join(&cache.name))
    }
}

/// Returns the content of a sealed file: magic, digest of owner and data, data.
fn seal(owner: &str, data: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &digest(owner, data), data].concat()
}

/// Returns the data of a sealed file if they are intact and belong to `owner`.
fn unseal<'a>(owner: &str, file: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, data) = file.strip_prefix(MAGIC)?.split_at_checked(DIGEST_BYTES)?;
    (sum == digest(owner, data)).then_some(data)
}

fn digest(owner: &str, data: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = Sha256::new();
    // The length comes first, so different pairs of owner and data never hash the same
    // bytes.
    hasher.update((owner.len() as u64).to_le_bytes());
    hasher.update(owner);
    hasher.update(data);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Backend, Binding, GpuOptions, Kernel, Strategy, Variant};

    #[test]
    fn only_complete_files_of_the_owner_are_unsealed() {
        let file = seal("me", b"data");
        assert_eq!(unseal("me", &file), Some(&b"data"[..]));
        assert_eq!(unseal("you", &file), None);
        for length in 0..file.len() {
            assert_eq!(unseal("me", &file[..length]), None);
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(unseal("me", &damaged), None);
        }
    }

    static KERNEL: Kernel = Kernel {
        name: "fill",
        source: "@group(0) @binding(0) var<storage, read_write> out: array<u32>;\n\
                 @compute @workgroup_size(1) fn fill() { out[0] = 7u; }",
        bindings: &[Binding::read_write(0, "out")],
    };

    fn variant() -> Variant {
        Variant {
            kernel: &KERNEL,
            strategy: Strategy::PerThread,
            fragments: Vec::new(),
            constants: Vec::new(),
        }
    }

    fn open(dir: &Path) -> Gpu {
        let options = GpuOptions { cache_dir: Some(dir.to_owned()), ..GpuOptions::default() };
        Gpu::open(&options).expect("an adapter")
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Returns whether the device has a pipeline cache; exactly the Vulkan devices do.
    fn keeps(gpu: &Gpu) -> bool {
        assert_eq!(gpu.pipeline_cache.is_some(), gpu.report().backend == Backend::Vulkan);
        gpu.pipeline_cache.is_some()
    }

    #[test]
    fn pipelines_are_read_back_and_damaged_files_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let variant = &variant();
        let gpu = open(dir.path());
        if !keeps(&gpu) {
            assert!(!gpu.save_pipelines());
            return;
        }
        gpu.pipeline(variant, true).unwrap();
        assert!(gpu.save_pipelines() && !gpu.save_pipelines());
        let [file] = &files(dir.path())[..] else { panic!("one file") };
        assert_eq!(gpu.pipeline_cache_file().as_ref(), Some(file));
        let bytes = std::fs::read(file).unwrap();

        // The second device starts with the pipelines that the first one saved.
        let second = open(dir.path());
        let cache = second.pipeline_cache.as_ref().unwrap();
        let found = unseal(&cache.owner, &bytes).expect("a complete file of this device");
        assert_eq!(*cache.stored.lock().unwrap(), Some(Sha256::digest(found).into()));
        second.pipeline(variant, true).unwrap();
        assert!(second.take_warnings().is_empty());

        for damage in [&bytes[..bytes.len() / 2], b"garbage", b"", &[&bytes[..], b"x"].concat()] {
            std::fs::write(file, damage).unwrap();
            let gpu = open(dir.path());
            let warnings = gpu.take_warnings();
            assert!(matches!(&warnings[..], [one] if one.contains("will be replaced")), "{warnings:?}");
            gpu.pipeline(variant, true).unwrap();
            assert!(gpu.save_pipelines());
            assert!(open(dir.path()).take_warnings().is_empty());
        }
    }

    #[test]
    fn an_unwritable_directory_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let gpu = open(&file);
        gpu.pipeline(&variant(), true).unwrap();
        assert!(!gpu.save_pipelines());
        let warnings = gpu.take_warnings().join("\n");
        assert_eq!(warnings.contains("cannot write"), keeps(&gpu), "{warnings}");
    }

    #[test]
    fn the_floor_requests_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = Some(dir.path().to_owned());
        let gpu =
            Gpu::open(&GpuOptions { cache_dir, features_floor: true, ..GpuOptions::default() }).unwrap();
        assert!(gpu.pipeline_cache_file().is_none() && !gpu.save_pipelines());
    }
}
