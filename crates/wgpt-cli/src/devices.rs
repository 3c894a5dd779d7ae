//! `wgpt devices`: the GPU adapters of this machine.

use wgpt::internals::gpu::no_adapter;
use wgpt::{AdapterReport, adapters};

use super::exit::Outcome;
use super::model_args::BackendArg;
use super::output::{bytes, labelled};
use super::results::ReportArgs;

/// List the GPU adapters, the preferred one first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt devices
  wgpt devices --backend vulkan --json
  wgpt generate --device 1 -p \"Hello\"          an adapter by its index
  WGPT_DEVICE=radeon wgpt generate -p \"Hello\"  or by a part of its name")]
pub struct Args {
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    api: BackendArg,
}

/// Runs `wgpt devices`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut sink = args.report.open(None, [])?;
    let list = adapters(args.api.backend);
    if args.report.form.json {
        sink.print_json(&list)?;
    } else {
        sink.print(&list.iter().map(table).collect::<Vec<_>>().join("\n"))?;
    }
    sink.finish()?;
    if list.is_empty() {
        return Err(no_adapter(args.api.backend).into());
    }
    Ok(Outcome::Done)
}

fn table(report: &AdapterReport) -> String {
    let yes_no = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let (least, most) = report.subgroup_size;
    let mut rows = vec![
        ("backend", report.backend.to_string()),
        ("type", report.device_type.name().to_owned()),
        ("driver", format!("{} {}", report.driver, report.driver_info).trim().to_owned()),
        ("f16", yes_no(report.shader_f16)),
        ("subgroups", if report.subgroups { format!("yes, sizes {least} to {most}") } else { "no".into() }),
        ("timestamps", yes_no(report.timestamps)),
        (
            "cooperative matrices",
            if report.cooperative_matrices.is_empty() {
                "none".into()
            } else {
                report.cooperative_matrices.join(", ")
            },
        ),
        ("storage binding", bytes(report.max_storage_binding_bytes)),
        ("buffer", bytes(report.max_buffer_bytes)),
        (
            "workgroup",
            format!(
                "{} threads, {} of memory",
                report.max_workgroup_invocations,
                bytes(report.max_workgroup_memory_bytes.into())
            ),
        ),
        ("storage buffers", format!("{} per kernel", report.max_storage_buffers)),
    ];
    if let Some(compiler) = &report.shader_compiler {
        rows.push(("shader compiler", compiler.clone()));
    }
    format!("{}: {}\n{}", report.index, report.name, labelled(&rows, 3))
}
