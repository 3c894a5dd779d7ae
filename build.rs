//! Hashes the sources of the kernels. A measurement and a tuned choice of kernels are valid
//! for one hash.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The sources of the kernels: their WGSL, and the Rust code that composes and records them.
const SOURCES: [&str; 2] = ["shaders", "src/kernels"];

/// Bytes of the hash that are kept: 64 bits tell the versions of one program apart.
const HASH_BYTES: usize = 8;

fn main() {
    let mut files = Vec::new();
    for dir in SOURCES {
        println!("cargo:rerun-if-changed={dir}");
        add_files(Path::new(dir), &mut files);
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        // The hash must not depend on the system's line ends and path separators.
        let (name, text) = (file.to_string_lossy().replace('\\', "/"), text.replace("\r\n", "\n"));
        for part in [name, text] {
            // The length comes first, so different divisions into parts give different hashes.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let mut digits = String::new();
    for byte in &hasher.finalize()[..HASH_BYTES] {
        let _ = write!(digits, "{byte:02x}");
    }
    println!("cargo:rustc-env=WGPT_KERNEL_SOURCES={digits}");
}

fn add_files(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", dir.display())).path();
        if path.is_dir() {
            add_files(&path, files);
        } else {
            files.push(path);
        }
    }
}
