//! The report of `wgpt doctor` as text: aligned, less than 100 columns wide, without
//! colours.

use wgpt::AdapterReport;
use wgpt::doctor::{Finding, Report};
use wgpt::internals::doctor::{Benchmark, Cache, CacheFile, KernelCheck, Status};

use super::flags::with_flags;
use super::output::{bytes, duration, rate};

/// Maximum width of a line, in columns.
const WIDTH: usize = 99;
/// Width of the labels, in columns.
const LABEL: usize = 20;

/// Formats the whole report.
pub fn text(report: &Report) -> String {
    let sections = [
        ("program", program(report)),
        ("adapter", adapter(report)),
        ("features", features(report)),
        ("limits", limits(report)),
        ("floor", floor(report)),
        ("kernels", kernels(report)),
        ("cache", cache(&report.details().cache, report.details().device.is_some())),
        ("environment", environment(report)),
        ("benchmark", benchmark(report.details().benchmark.as_ref())),
        ("verdict", verdict(report)),
    ];
    let mut text = format!("wgpt doctor, {}\n", report.details().time);
    for (title, rows) in sections {
        text += &format!("\n{title}\n");
        for (label, value) in rows {
            text += &wrapped(&label, &with_flags(&value));
        }
    }
    text
}

type Rows = Vec<(String, String)>;

fn row(label: impl Into<String>, value: impl Into<String>) -> (String, String) {
    (label.into(), value.into())
}

const fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn program(report: &Report) -> Rows {
    let (program, machine) = (&report.details().program, &report.details().machine);
    let demo = if program.demo_model { "with the demo model" } else { "without a demo model" };
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let memory = machine.memory_bytes.map_or_else(|| "unknown memory".to_owned(), bytes);
    vec![
        row("wgpt", format!("{}, kernels {}, {demo}", program.wgpt, program.kernels)),
        row("wgpu", program.wgpu),
        row("system", format!("{} {}, {}", machine.os, machine.arch, known(&machine.system))),
        row("kernel", known(&machine.kernel)),
        row("cpu", format!("{}, {} cores, {memory}", known(&machine.cpu), machine.cpu_cores)),
    ]
}

fn adapter(report: &Report) -> Rows {
    let Some(adapter) = &report.details().adapter else { return vec![row("chosen", "none")] };
    let AdapterReport { index, name, backend, device_type, driver, driver_info, .. } = adapter;
    let others = report.details().other_adapters.join(", ");
    let compiler = adapter.shader_compiler.clone();
    let matrices = adapter.cooperative_matrices.join(", ");
    let (least, most) = adapter.subgroup_size;
    let device = match &report.details().device {
        None => "not opened".to_owned(),
        Some(device) => {
            let floor = if device.features_floor { ", with only the floor" } else { "" };
            let binding = bytes(device.max_binding_bytes);
            format!("opened, {} kernels, bindings up to {binding}{floor}", device.strategy)
        }
    };
    vec![
        row("chosen", format!("{index}: {name}")),
        row("backend, type", format!("{backend}, {}", device_type.name())),
        row("driver", format!("{driver} {driver_info}").trim()),
        row("DX12 compiler", compiler.unwrap_or_else(|| "none: the backend is not DX12".to_owned())),
        row("subgroup sizes", format!("{least} to {most}")),
        row("cooperative matrices", or_none(matrices)),
        row("other adapters", or_none(others)),
        row("device", device),
    ]
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Formats a line of a table whose first column is wide.
fn line(columns: [&str; 4]) -> (String, String) {
    let [name, a, b, c] = columns;
    row(format!("{name:<38}{a:>14} {b:>13}  {c}").trim_end(), "")
}

fn features(report: &Report) -> Rows {
    let rows = report.details().features.iter().map(|feature| {
        line([feature.name, yes_no(feature.offered), yes_no(feature.requested), feature.purpose])
    });
    with_head(["name", "offered", "requested", "for"], rows)
}

fn limits(report: &Report) -> Rows {
    let rows = report.details().limits.iter().map(|limit| {
        let (offered, floor) = (limit.offered.to_string(), limit.floor.to_string());
        line([limit.name, &offered, &floor, yes_no(limit.reaches_floor)])
    });
    with_head(["name", "offered", "floor", "enough"], rows)
}

/// Returns the rows with a header above them, or `unknown` if there are none.
fn with_head(head: [&str; 4], rows: impl Iterator<Item = (String, String)>) -> Rows {
    let rows: Rows = rows.collect();
    if rows.is_empty() { vec![row("unknown", "")] } else { [vec![line(head)], rows].concat() }
}

fn floor(report: &Report) -> Rows {
    let Some(floor) = &report.details().floor else { return vec![row("unknown", "")] };
    let mut rows = vec![row("second device", if floor.opened { "opened" } else { "not opened" })];
    rows.extend(floor.problem.iter().map(|problem| row("problem", problem)));
    let passed = floor.kernels.iter().filter(|kernel| kernel.status == Status::Passed).count();
    rows.push(row("default kernels", format!("{passed} of {} passed", floor.kernels.len())));
    rows.extend(floor.kernels.iter().filter(|kernel| kernel.status != Status::Passed).map(kernel));
    rows
}

fn kernels(report: &Report) -> Rows {
    let shapes = &report.details().model.shapes;
    let sizes = format!(
        "{}: n_embd {}, {} heads of {}, {} weights, {} cache",
        report.details().model.name,
        shapes.n_embd,
        shapes.n_head,
        shapes.head_dim,
        shapes.dtype,
        shapes.kv_dtype
    );
    let of = |status| report.details().kernels.iter().filter(|kernel| kernel.status == status).count();
    let count = format!(
        "{} passed, {} demoted, {} unavailable",
        of(Status::Passed),
        of(Status::Demoted),
        of(Status::Unavailable)
    );
    let mut rows = vec![row("sizes", sizes), row("checked", count)];
    rows.extend(report.details().kernels.iter().map(kernel));
    rows
}

fn kernel(kernel: &KernelCheck) -> (String, String) {
    let mut notes: Vec<&str> = Vec::new();
    notes.extend(kernel.in_use.then_some("in use"));
    notes.extend(kernel.default.then_some("default"));
    notes.extend(kernel.reason.as_deref());
    let value = format!("{:<26}{:<12}{}", kernel.variant, kernel.status.name(), notes.join(", "));
    row(kernel.op.name(), value.trim_end())
}

fn cache(cache: &Cache, opened: bool) -> Rows {
    let Some(dir) = &cache.dir else { return vec![row("directory", "none: nothing is stored")] };
    let file = |file: &Option<CacheFile>| match file {
        None if opened => "none are stored for this device".to_owned(),
        None => "unknown".to_owned(),
        Some(CacheFile { path, bytes: None }) => format!("{path}: does not exist"),
        Some(CacheFile { path, bytes: Some(size) }) => format!("{path}: {}", bytes(*size)),
    };
    let (exists, writable) = (yes_no(cache.exists), yes_no(cache.writable));
    vec![
        row("directory", dir),
        row("exists, writable", format!("{exists}, {writable}; {} in files", bytes(cache.bytes))),
        row("pipelines", file(&cache.pipelines)),
        row("tuned choices", file(&cache.choices)),
        row("tuned", yes_no(cache.tuned)),
    ]
}

fn environment(report: &Report) -> Rows {
    let rows: Rows =
        report.details().environment.iter().map(|v| row(v.name, format!("= {}", v.value))).collect();
    if rows.is_empty() { vec![row("no relevant variable is set", "")] } else { rows }
}

fn benchmark(found: Option<&Benchmark>) -> Rows {
    let Some(found) = found else { return vec![row("not run", "")] };
    let bandwidth =
        |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} GB/s", rate / 1e9));
    let time = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), |ns| duration(ns / 1e9));
    let clock = found.clock.map_or("-", |clock| clock.name());
    let mut rows = vec![
        row("duration", format!("{}, probes timed by the {clock} clock", duration(found.seconds))),
        row("copy", bandwidth(found.copy_bytes_per_second)),
        row("read", bandwidth(found.read_bytes_per_second)),
        row("dispatch, submit", format!("{}, {}", time(found.dispatch_ns), time(found.submit_ns))),
    ];
    if let Some(model) = &found.model {
        let rates = [
            ("prefill", model.n_prompt, model.prefill_tokens_per_second),
            ("decode", model.n_gen, model.decode_tokens_per_second),
        ];
        rows.extend(rates.map(|(what, n, tokens)| {
            row(what, format!("{} tokens/s ({} model, {n} tokens)", rate(Some(tokens)), model.name))
        }));
    }
    rows.extend(found.notes.iter().map(|note| row("note", note)));
    rows
}

fn verdict(report: &Report) -> Rows {
    let finding = |finding: &Finding| {
        row(format!("{}, {}", finding.severity.name(), finding.subject.name()), finding.message.clone())
    };
    let mut rows = vec![row(report.verdict.name(), "")];
    rows.extend(report.findings.iter().map(finding));
    rows
}

/// Formats a label and a value. A value too long for one line is wrapped at spaces, or
/// anywhere if there is no space.
fn wrapped(label: &str, value: &str) -> String {
    const INDENT: &str = "  ";
    if value.is_empty() {
        let pieces = pieces(label, WIDTH - INDENT.len()).into_iter();
        return pieces.map(|piece| format!("{INDENT}{piece}\n")).collect();
    }
    let room = WIDTH - INDENT.len() - LABEL - 2;
    let mut text = String::new();
    let pieces = value.lines().flat_map(|line| pieces(line, room));
    for (number, piece) in pieces.enumerate() {
        let label = if number == 0 { label } else { "" };
        text += format!("{INDENT}{label:<LABEL$}  {piece}").trim_end();
        text.push('\n');
    }
    text
}

/// Splits `line` into pieces of at most `room` characters.
fn pieces(line: &str, room: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.trim_end().chars().collect();
    let mut pieces = Vec::new();
    while rest.len() > room {
        let space = rest[..=room].iter().rposition(|c| *c == ' ').filter(|at| *at > 0);
        let behind = rest.split_off(space.unwrap_or(room));
        pieces.push(rest.into_iter().collect::<String>().trim_end().to_owned());
        rest = behind.into_iter().skip_while(|c| *c == ' ').collect();
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_at_spaces_if_possible() {
        assert_eq!(pieces("short", 10), ["short"]);
        assert_eq!(pieces("", 10), [""]);
        assert_eq!(pieces("one two three", 8), ["one two", "three"]);
        assert_eq!(pieces("exactly8 next", 8), ["exactly8", "next"]);
        assert_eq!(pieces("abcdefghijkl", 5), ["abcde", "fghij", "kl"]);
        let text = wrapped("label", &["word "; 60].concat());
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(wrapped("label", "a\nb").ends_with("  a\n                        b\n"));
    }
}
