//! `wgpt bench plot`: records as pictures.

mod labels;
mod rates;
mod roofline;

use std::path::{Path, PathBuf};

use plotters::prelude::*;

use super::record_file::Records;
use crate::exit::{Outcome, usage};
use crate::new_file::create_distinct;
use crate::output::note;
use crate::plot::WIDTH;
use rates::Panel;

/// Draw records as SVG: kernels on a roofline, tokens per second by depth, memory
///
/// A record is the JSON output of `wgpt bench model` or `wgpt bench kernels`, or a file
/// of benches/record or gpu_bench.sh that contains it. Each kernel record becomes a
/// roofline with all of its rows. Model rows become lines of tokens per second against
/// the depth, and against the prompt's length if there are several lengths. Rows with
/// several contexts (--ctx-size) become lines of the planned memory.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  wgpt bench plot kernels.json -o roofline.svg
  wgpt bench plot before.json after.json -o rates.svg     both in one picture",
    override_usage = "wgpt bench plot -o <FILE> <RECORD>..."
)]
pub struct Args {
    /// Records to draw
    #[arg(required = true, value_name = "RECORD")]
    files: Vec<PathBuf>,
    /// Write the picture to FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

/// Runs `wgpt bench plot`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (out, inputs) = out_and_inputs(args)?;
    let mut records = Records::default();
    for input in inputs {
        let Records { models, kernels } = Records::read(input)?;
        records.models.extend(models);
        records.kernels.extend(kernels);
    }
    // Fails before the picture is drawn if it would replace a record.
    let mut file = create_distinct(out, inputs.iter().map(PathBuf::as_path))?;
    file.write(svg(&records)?.as_bytes())?;
    file.finish()?;
    Ok(Outcome::Done)
}

/// Returns the picture to write and the records. Without -o, a last file that ends in .svg
/// is the picture, as before version 0.2, and a note is printed.
fn out_and_inputs(args: &Args) -> anyhow::Result<(&Path, &[PathBuf])> {
    if let Some(out) = &args.output {
        return Ok((out, &args.files));
    }
    match args.files.split_last() {
        Some((out, inputs)) if !inputs.is_empty() && out.extension().is_some_and(|end| end == "svg") => {
            note(&format!("note: the next release will read {} as a record: write -o {0}", out.display()));
            Ok((out, inputs))
        }
        _ => Err(usage("name the file of the picture: -o FILE")),
    }
}

/// Draws all records as one picture, one part below the other.
pub fn svg(records: &Records) -> anyhow::Result<String> {
    let panels = rates::panels(&records.models);
    let rooflines: Vec<_> = records.kernels.iter().filter(|record| !record.kernels.is_empty()).collect();
    let heights = rooflines.iter().map(|record| roofline::height(record));
    let heights: Vec<u32> = heights.chain(panels.iter().map(Panel::height)).collect();
    anyhow::ensure!(!heights.is_empty(), "the records have no rows to draw");
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, heights.iter().sum())).into_drawing_area();
        root.fill(&WHITE)?;
        let mut rest = root.clone();
        for (index, &height) in heights.iter().enumerate() {
            let (area, below) = rest.split_vertically(height);
            match rooflines.get(index) {
                Some(record) => roofline::draw(&area, record)?,
                None => panels[index - rooflines.len()].draw(&area)?,
            }
            rest = below;
        }
        root.present()?;
    }
    Ok(text)
}

/// Joins the distinct values in order.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all.join("; ")
}
