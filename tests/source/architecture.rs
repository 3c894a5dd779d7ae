//! Checks the direction of imports and the size of files against ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules that each module may import; all may import [`EVERYONES`]. `internals`, the
/// door, may import all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("reference", &["tensor"]),
    ("sampling", &[]),
    ("text", &[]),
    ("memory", &["tensor"]),
    ("gpu", &["memory", "tensor"]),
    ("checkpoint", &["tensor"]),
    ("kernels", &["gpu", "tensor"]),
    ("conformance", &["kernels", "reference", "gpu", "tensor"]),
    ("tune", &["model", "conformance", "kernels", "gpu", "memory", "tensor"]),
    ("model", &["kernels", "gpu", "checkpoint", "memory", "tensor"]),
    (
        "engine",
        &[
            "conformance",
            "model",
            "text",
            "sampling",
            "tune",
            "kernels",
            "gpu",
            "checkpoint",
            "memory",
            "tensor",
        ],
    ),
    (
        "bench",
        &[
            "conformance",
            "engine",
            "model",
            "tune",
            "sampling",
            "reference",
            "kernels",
            "gpu",
            "checkpoint",
            "tensor",
        ],
    ),
    ("doctor", &["bench", "conformance", "engine", "model", "tune", "kernels", "gpu", "tensor"]),
    ("files", &[]),
    ("error", &["memory"]),
];

/// Modules that every module may import.
const EVERYONES: &[&str] = &["error", "files"];

/// Modules that must not name wgpu.
const WITHOUT_WGPU: &[&str] = &[
    "tensor",
    "memory",
    "reference",
    "conformance",
    "sampling",
    "text",
    "checkpoint",
    "kernels",
    "model",
    "engine",
    "files",
    "bench",
    "doctor",
];

/// Files are split by idea. One type's `impl` block may be long; a longer file holds two.
const LINES_MAX: usize = 700;

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

/// Returns the sources of the library, in `src`, or of a crate.
fn sources_of(folder: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    sources(Path::new(folder), &mut all);
    all.sort();
    let least = if folder == "src" { 40 } else { 10 };
    assert!(all.len() > least, "the sources of {folder} were not found");
    all
}

const EVAL: &str = "crates/wgpt-eval/src";
const CLI: &str = "crates/wgpt-cli/src";

/// Returns the module of a path: its first folder or file under `src/`.
fn room(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns a line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Returns the first name after each `crate::` of a text, with its line. `crate::a::b`
/// gives a; `crate::{a::{b, c}, d}`, on one line or several, gives a and d.
fn imports(text: &str) -> Vec<(usize, String)> {
    let text = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        // Skip the end of a longer name and a macro's `$crate::`.
        if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let path = &text[at + prefix.len()..];
        found.extend(first_names(path).into_iter().map(|name| (line, name)));
    }
    found
}

fn first_names(path: &str) -> Vec<String> {
    let identifier =
        |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let (mut names, mut depth, mut at_start) = (Vec::new(), 0, true);
    for (i, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                names.push(identifier(&group[i..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

/// Returns the module of a name after `crate::`. A re-export of `lib.rs` counts for the
/// module that defines it.
fn room_of(name: &str) -> &str {
    match name {
        "Error" | "ErrorKind" | "Result" => "error",
        "Chat" | "Engine" | "EngineBuilder" | "GenerateOptions" | "Generation" | "Session" => "engine",
        room => room,
    }
}

#[test]
fn imports_only_go_down() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    for path in sources_of("src") {
        let room = room(&path);
        if ["lib", "internals"].contains(&room.as_str()) {
            continue;
        }
        let Some(edges) = allowed.get(room.as_str()) else {
            panic!("src/{room}: ALLOWED does not list this room: add it");
        };
        for (line, name) in imports(&std::fs::read_to_string(&path).unwrap()) {
            let to = room_of(&name);
            if !allowed.contains_key(to) {
                faults.push(format!("{}:{line}: crate::{name} is in no room", path.display()));
            } else if !EVERYONES.contains(&to) && to != room && !edges.contains(&to) {
                faults.push(format!("{}:{line}: {room} imports {to}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "imports must go down:\n{}", faults.join("\n"));
}

#[test]
fn imports_are_recognised() {
    let names =
        |text| imports(text).into_iter().map(|(line, name)| format!("{line} {name}")).collect::<Vec<_>>();
    assert_eq!(names("use crate::gpu::{Gpu, Work};"), ["1 gpu"]);
    assert_eq!(names("use crate::{gpu, model::Dims};"), ["1 gpu", "1 model"]);
    assert_eq!(
        names("\nuse crate::{\n    gpu::{Gpu, Work}, // crate::text\n    model,\n};"),
        ["2 gpu", "2 model"]
    );
    assert_eq!(names("    None => Err(crate::Error::input(crate::text::x())),"), ["1 Error", "1 text"]);
    assert!(names("use super::gpu; mycrate::text::x(); $crate::eval!()").is_empty());
}

#[test]
fn only_the_gpu_room_uses_wgpu() {
    let rooms = sources_of("src").into_iter().filter(|path| WITHOUT_WGPU.contains(&room(path).as_str()));
    for path in rooms.chain(sources_of(EVAL)) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            assert!(!code(line).contains("wgpu::"), "{}:{} names wgpu", path.display(), number + 1);
        }
    }
}

/// The evaluation is a program like any other: what it needs is public.
#[test]
fn the_evaluation_uses_only_the_public_interface() {
    for path in sources_of(EVAL) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let opens = code(line).contains("internals");
            assert!(!opens, "{}:{} opens the library's inner rooms", path.display(), number + 1);
        }
    }
}

#[test]
fn only_the_binary_has_command_line_code() {
    for path in [sources_of("src"), sources_of(EVAL)].concat() {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in ["clap", "anyhow", "indicatif", "ctrlc", "println!", "eprintln!"] {
            let uses = text.lines().any(|line| code(line).contains(name));
            assert!(!uses, "{}: {name} belongs to the command line", path.display());
        }
    }
}

#[test]
fn files_stay_small() {
    for path in ["src", EVAL, CLI].into_iter().flat_map(sources_of) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: move one idea to another file", path.display());
    }
}

#[test]
fn architecture_md_lists_every_room() {
    let text = std::fs::read_to_string("ARCHITECTURE.md").unwrap();
    for (room, _) in ALLOWED {
        assert!(text.contains(&format!("{room}/")) || text.contains(&format!("{room}.rs")), "{room}");
    }
}

/// `make test` names the test programs, because some need other variables. None may be
/// forgotten.
#[test]
fn make_test_runs_every_test_program() {
    let makefile = std::fs::read_to_string("Makefile").unwrap();
    let named: Vec<&str> =
        makefile.split("--test ").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    let mut found = 0;
    for folder in ["tests", "crates/wgpt-cli/tests", "crates/wgpt-eval/tests"] {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().join("main.rs").exists() {
                let name = entry.file_name().into_string().unwrap();
                assert!(named.contains(&name.as_str()), "the Makefile does not run {folder}/{name}");
                found += 1;
            }
        }
    }
    assert!(found >= 8, "{found} test programs");
}
