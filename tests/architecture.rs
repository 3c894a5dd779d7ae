//! The direction of imports and the size of files, as ARCHITECTURE.md has them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may import; `error` is everyone's.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("reference", &["tensor"]),
    ("sampling", &[]),
    ("text", &[]),
    ("gpu", &["tensor"]),
    ("checkpoint", &["tensor"]),
    ("kernels", &["gpu", "tensor"]),
    ("tune", &["kernels", "reference", "gpu", "tensor"]),
    ("model", &["kernels", "gpu", "checkpoint", "tensor"]),
    ("engine", &["model", "text", "sampling", "tune", "kernels", "gpu", "checkpoint", "tensor"]),
    ("eval", &["engine", "model", "text", "sampling", "kernels", "gpu", "checkpoint", "tensor"]),
    ("bench", &["engine", "model", "tune", "sampling", "kernels", "gpu", "checkpoint", "tensor"]),
    ("error", &[]),
];

/// Rooms that must not name wgpu.
const WITHOUT_WGPU: &[&str] =
    &["tensor", "reference", "sampling", "text", "checkpoint", "kernels", "model", "engine", "eval", "bench"];

const LINES_MAX: usize = 400;

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut all = Vec::new();
    sources(Path::new("src"), &mut all);
    all.sort();
    assert!(all.len() > 40, "the sources were not found");
    all
}

/// The first folder or file under `src/`.
fn room(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Names that follow `crate::` in a line: `crate::a`, `crate::{a, b::c}`.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in line.split("crate::").skip(1) {
        let list = match part.strip_prefix('{') {
            Some(list) => list.split(',').collect(),
            None => vec![part],
        };
        for item in list {
            let name: String =
                item.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    for path in all_sources() {
        let room = room(&path);
        if ["lib", "main", "cli"].contains(&room.as_str()) {
            continue;
        }
        let Some(edges) = allowed.get(room.as_str()) else {
            panic!("src/{room}: a room that ALLOWED does not know: give it its place");
        };
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            for name in imports(code(line)) {
                let is_room = allowed.contains_key(name.as_str()) && name != "error";
                // The public front (crate::Error) is error's.
                if is_room && name != room && !edges.contains(&name.as_str()) {
                    faults.push(format!("{}:{}: {room} imports {name}", path.display(), number + 1));
                }
                assert!(
                    is_room || name == "error" || name.starts_with(char::is_uppercase),
                    "{}:{}: crate::{name} is no room",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(faults.is_empty(), "imports must go down:\n{}", faults.join("\n"));
}

#[test]
fn imports_are_recognised() {
    assert_eq!(imports("use crate::gpu::{Gpu, Work};"), ["gpu"]);
    assert_eq!(imports("use crate::{gpu, model::Dims};"), ["gpu", "model"]);
    assert_eq!(imports("    None => Err(crate::Error::input(crate::text::x())),"), ["Error", "text"]);
    assert!(imports("use super::gpu;").is_empty());
}

#[test]
fn wgpu_stays_in_the_gpu_room() {
    for path in all_sources() {
        if !WITHOUT_WGPU.contains(&room(&path).as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            assert!(!code(line).contains("wgpu::"), "{}:{} names wgpu", path.display(), number + 1);
        }
    }
}

#[test]
fn the_command_line_lives_in_the_binary() {
    for path in all_sources() {
        if ["main", "cli"].contains(&room(&path).as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for name in ["clap", "anyhow", "indicatif", "ctrlc", "println!", "eprintln!"] {
            let uses = text.lines().any(|line| code(line).contains(name));
            assert!(!uses, "{}: {name} belongs to the command line", path.display());
        }
    }
}

#[test]
fn files_stay_small() {
    for path in all_sources() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: which idea wants its own room?", path.display());
    }
}

#[test]
fn architecture_md_names_every_room() {
    let text = std::fs::read_to_string("ARCHITECTURE.md").unwrap();
    for (room, _) in ALLOWED {
        assert!(text.contains(&format!("{room}/")) || text.contains(&format!("{room}.rs")), "{room}");
    }
}
