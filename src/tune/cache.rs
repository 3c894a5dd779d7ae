//! Cache files of tuned choices. There is one file for each combination of model shape,
//! adapter, driver, and version of the kernels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Tuning;
use crate::conformance::Shapes;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{AdapterReport, Capabilities, WGPU_VERSION};
use crate::kernels::{Candidate, SOURCE_HASH};

/// Version of the file format.
const FORMAT: u32 = 1;
/// Maximum file size in bytes; a larger file was not written by this program.
const BYTES_MAX: u64 = 64 << 10;

/// The setup for which choices are valid. A different adapter, driver, wgpu, program or
/// model has its own choices in its own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Name of the adapter.
    pub adapter: String,
    /// Graphics API: vulkan, metal or dx12.
    pub backend: String,
    /// Name of the driver.
    pub driver: String,
    /// Version of the driver, in the driver's own wording.
    pub driver_info: String,
    /// Version of this library.
    pub wgpt: String,
    /// Version of wgpu, which translates the kernels.
    pub wgpu: String,
    /// Kernel family that the device prefers.
    pub strategy: String,
    /// Whether subgroup operations may be used.
    pub subgroups: bool,
    /// Whether 64-bit integers may be used.
    pub int64: bool,
    /// Sizes of the cooperative matrices that may be used.
    pub cooperative: Vec<u32>,
    /// Hash of the kernel sources, from [`SOURCE_HASH`].
    pub kernels: String,
    /// Sizes and types of the model.
    pub shapes: Shapes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    key: Key,
    /// Operation name to implementation name.
    choices: BTreeMap<String, String>,
    /// Implementations that failed the canary, with the reasons.
    dropped: BTreeMap<String, String>,
}

impl Key {
    /// Creates the key for an adapter, the capabilities of its device, and a model's
    /// sizes.
    #[must_use]
    pub fn new(adapter: &AdapterReport, device: &Capabilities, shapes: Shapes) -> Self {
        Key {
            adapter: adapter.name.clone(),
            backend: adapter.backend.name().to_owned(),
            driver: adapter.driver.clone(),
            driver_info: adapter.driver_info.clone(),
            wgpt: env!("CARGO_PKG_VERSION").to_owned(),
            wgpu: WGPU_VERSION.to_owned(),
            strategy: device.strategy.name().to_owned(),
            subgroups: device.subgroups,
            int64: device.int64,
            cooperative: [8, 16].into_iter().filter(|&size| device.cooperative.has(size)).collect(),
            kernels: SOURCE_HASH.to_owned(),
            shapes,
        }
    }

    fn file_name(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|e| Error::input(format!("tuning key: {e}")))?;
        let digest = Sha256::digest(&json);
        let hex = files::hex(&digest[..8]);
        Ok(format!("tuning-{hex}.json"))
    }
}

/// Result of a cache lookup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Choices, if the cache has any: one for each tuned operation.
    pub choices: Option<Vec<&'static Candidate>>,
    /// Implementations that failed their check on this driver during tuning, with the
    /// reasons.
    pub dropped: BTreeMap<String, String>,
    /// Reason why a file was ignored.
    pub warning: Option<String>,
}

/// Returns the path of the file in `dir` for the choices of `key`, whether or not it
/// exists.
///
/// # Errors
/// [`Error::Input`] for a key that cannot be serialized as JSON.
pub fn file(dir: &Path, key: &Key) -> Result<PathBuf> {
    key.file_name().map(|name| dir.join(name))
}

/// Looks up the choices of `key` in `dir`. `device` must be able to run all of them.
#[must_use]
pub fn load(dir: &Path, key: &Key, device: &Capabilities) -> Found {
    let read = || -> std::result::Result<_, (PathBuf, String)> {
        let path = file(dir, key).map_err(|e| (dir.to_owned(), e.to_string()))?;
        let bytes = files::read_if_present(&path, BYTES_MAX).map_err(|e| (path.clone(), e.to_string()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        parse(&bytes, key, device).map(Some).map_err(|message| (path, message))
    };
    match read() {
        Ok(None) => Found::default(),
        Ok(Some((choices, dropped))) => Found { choices: Some(choices), dropped, warning: None },
        Err((path, message)) => {
            let warning = format!("tuned choices {}: {message}; the file is ignored", path.display());
            Found { warning: Some(warning), ..Found::default() }
        }
    }
}

fn parse(
    bytes: &[u8],
    key: &Key,
    device: &Capabilities,
) -> std::result::Result<(Vec<&'static Candidate>, BTreeMap<String, String>), String> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    // Check the version first: a different version may have other fields.
    let Version { format } = serde_json::from_slice(bytes).map_err(|e| format!("it is damaged ({e})"))?;
    if format != FORMAT {
        return Err(format!("it has format {format}, but this program writes {FORMAT}"));
    }
    let contents: Contents = serde_json::from_slice(bytes).map_err(|e| format!("it is damaged ({e})"))?;
    if contents.key != *key {
        return Err("it was made for another adapter, driver, program or model".to_owned());
    }
    let candidate = |(op, name): (&String, &String)| {
        let candidate: &'static Candidate =
            format!("{op}={name}").parse().map_err(|e: Error| e.to_string())?;
        if candidate.runs_on(device) { Ok(candidate) } else { Err(format!("{candidate} cannot run here")) }
    };
    let choices = contents.choices.iter().map(candidate).collect::<std::result::Result<_, _>>()?;
    Ok((choices, contents.dropped))
}

/// Stores the result of a search in `dir` and creates the directory if it does not exist.
/// Atomically replaces an existing file. Returns the path of the file.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be written.
pub fn store(dir: &Path, key: &Key, tuning: &Tuning) -> Result<PathBuf> {
    let name = key.file_name()?;
    let contents = Contents {
        format: FORMAT,
        key: key.clone(),
        choices: tuning.ops.iter().map(|t| (t.op.name().to_owned(), t.chosen.name.to_owned())).collect(),
        dropped: tuning.dropped.iter().map(|d| (d.candidate.to_string(), d.reason.clone())).collect(),
    };
    let json = serde_json::to_vec_pretty(&contents).map_err(|e| Error::input(format!("tuning: {e}")))?;
    files::write(dir, &name, &[&json[..], b"\n"].concat())?;
    Ok(dir.join(name))
}

/// Checks that [`store`] could write to `dir`. Call this before a search.
///
/// # Errors
/// [`Error::Io`] if it could not.
pub fn check_writable(dir: &Path) -> Result<()> {
    files::check_writable(dir)
}
