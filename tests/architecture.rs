<<<<<<< HEAD
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
=======
//! The rooms under `src/` and who may import whom: imports go down only.

use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import.
const ALLOWED: [(&str, &[&str]); 14] = [
    (
        "cli",
        &[
            "bench",
            "eval",
            "engine",
            "model",
            "text",
            "sampling",
            "tune",
            "kernels",
            "reference",
            "gpu",
            "checkpoint",
            "tensor",
            "error",
        ],
    ),
    (
        "bench",
        &[
            "engine",
            "model",
            "text",
            "sampling",
            "tune",
            "kernels",
            "reference",
            "gpu",
            "checkpoint",
            "tensor",
            "error",
        ],
    ),
    (
        "eval",
        &[
            "engine",
            "model",
            "text",
            "sampling",
            "tune",
            "kernels",
            "reference",
            "gpu",
            "checkpoint",
            "tensor",
            "error",
        ],
    ),
    ("engine", &["model", "text", "sampling", "tune", "kernels", "gpu", "checkpoint", "tensor", "error"]),
    ("model", &["kernels", "gpu", "checkpoint", "tensor", "error"]),
    ("tune", &["kernels", "reference", "gpu", "tensor", "error"]),
    ("kernels", &["gpu", "tensor", "error"]),
    ("gpu", &["tensor", "error"]),
    ("checkpoint", &["tensor", "error"]),
    ("reference", &["tensor"]),
    ("sampling", &["error"]),
    ("text", &["error"]),
    ("tensor", &["error"]),
    ("error", &[]),
];

/// What `lib.rs` re-exports, by the room that defines it.
const ROOT_NAMES: [(&str, &[&str]); 2] = [
    ("error", &["Error", "ErrorKind", "Result"]),
    ("engine", &["Engine", "EngineBuilder", "GenerateOptions", "Generation", "Session"]),
];

/// Rooms that may not name wgpu: they know nothing of devices.
const WITHOUT_WGPU: [&str; 9] =
    ["checkpoint", "tensor", "reference", "sampling", "text", "model", "tune", "eval", "error"];

const LINES_MAX: usize = 400;

/// Longer files, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// A source file: its room, its path and its text without comments.
struct Source {
    room: String,
    path: PathBuf,
    n_lines: usize,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    collect(Path::new("src"), &mut all);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(all.len() > 20, "src/ was not found");
    all
}

fn collect(folder: &Path, all: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let first = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
            let room = first.trim_end_matches(".rs").to_owned();
            let code = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
            all.push(Source { room, path, n_lines: text.lines().count(), code });
>>>>>>> kerneltests
        }
    }
}

<<<<<<< HEAD
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
=======
/// The line up to `//`, unless that follows a colon, as in an address.
fn without_comment(line: &str) -> &str {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| at + from) {
        if !line[..at].ends_with(':') {
            return &line[..at];
        }
        from = at + 2;
    }
    line
}

/// The first names after each `crate::` (or, where the library is named from
/// outside, `wgpt::`), with their lines: `crate::a::b` gives a, `crate::{a::b,
/// c}` gives a and c.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "wgpt::"] {
        for (at, _) in code.match_indices(prefix) {
            // Not the end of a longer name, nor a macro's `$crate::`.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for name in first_names(&code[at + prefix.len()..]) {
                found.push((line, name));
>>>>>>> kerneltests
            }
        }
    }
    found
}

<<<<<<< HEAD
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
=======
fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let (mut names, mut depth, mut at_start) = (Vec::new(), 0, true);
    for (i, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if c.is_whitespace() => {}
            _ if at_start => {
                names.push(identifier(&group[i..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

/// The room that a name after `crate::` leads to.
fn room_of(name: &str) -> Option<&'static str> {
    let room = ALLOWED.iter().map(|(room, _)| *room).find(|room| *room == name);
    room.or_else(|| ROOT_NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(room, _)| *room))
}

/// Why `room` may not import `name`, if it may not.
fn objection(room: &str, name: &str) -> Option<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == room) else {
        return Some(format!("{room} is not a room that this test knows"));
    };
    match room_of(name) {
        None => Some(format!("crate::{name} is in no room that this test knows")),
        Some(to) if to == room || allowed.contains(&to) => None,
        Some(to) => Some(format!("{room} may not import {to}")),
    }
}

#[test]
fn imports_go_down_only() {
    let mut faults = Vec::new();
    // main.rs and lib.rs put the rooms together.
    for source in sources().iter().filter(|source| !["main", "lib"].contains(&source.room.as_str())) {
        for (line, name) in imports(&source.code) {
            if let Some(why) = objection(&source.room, &name) {
                faults.push(format!("{}:{line}: {why}", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "imports against the direction:\n{}", faults.join("\n"));
}

#[test]
fn rooms_form_no_circle() {
    for (position, (room, allowed)) in ALLOWED.iter().enumerate() {
        for to in *allowed {
            let below = ALLOWED.iter().position(|(known, _)| known == to);
            assert!(below.is_some_and(|below| below > position), "{to} must stand below {room}");
>>>>>>> kerneltests
        }
    }
}

#[test]
<<<<<<< HEAD
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
=======
fn rooms_above_the_gpu_do_not_name_wgpu() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| WITHOUT_WGPU.contains(&source.room.as_str())) {
        for (index, line) in source.code.lines().enumerate() {
            let named = line.match_indices("wgpu").any(|(at, word)| {
                let part = |c: char| c.is_alphanumeric() || c == '_';
                !line[..at].ends_with(part) && line[at + word.len()..].trim_start().starts_with("::")
            });
            if named {
                faults.push(format!("{}:{}: {}", source.path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "wgpu is for gpu and what binds it:\n{}", faults.join("\n"));
}

#[test]
fn files_stay_short() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display().to_string().replace('\\', "/");
        let excused = LONG_FILES.iter().any(|(long, _)| *long == path);
        if source.n_lines > LINES_MAX && !excused {
            faults.push(format!(
                "{path}: {} lines; split it by idea, or list it with a reason",
                source.n_lines
            ));
        }
        assert!(source.n_lines > LINES_MAX || !excused, "{path} is short again: take it off the list");
    }
    assert!(faults.is_empty(), "files of more than {LINES_MAX} lines:\n{}", faults.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_all_forms() {
    let code = "use crate::gpu::Gpu;\nuse crate::{\n    kernels::{Step, gemm},\n    tensor::DType,\n    Error,\n};\n\
                let x = crate::model::plan();\nlet y = mycrate::text::z; $crate::nothing!(); use wgpt::eval;";
    let names: Vec<_> = imports(code).into_iter().map(|(line, name)| format!("{line} {name}")).collect();
    assert_eq!(names, ["1 gpu", "2 kernels", "2 tensor", "2 Error", "7 model", "8 eval"]);
    assert_eq!(without_comment("a; // crate::gpu"), "a; ");
    assert_eq!(without_comment("\"http://x\" // crate::gpu"), "\"http://x\" ");
    assert!(objection("kernels", "model").is_some());
    assert!(objection("kernels", "Result").is_none());
    assert!(objection("kernels", "unheard_of").is_some());
>>>>>>> kerneltests
}
