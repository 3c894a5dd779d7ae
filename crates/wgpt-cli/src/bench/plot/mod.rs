//! `wgpt bench plot`: records as pictures.

mod labels;
mod rates;
mod roofline;

use std::path::PathBuf;

use plotters::prelude::*;

use super::record_file::Records;
use crate::exit::Outcome;
use crate::plot::{WIDTH, save};
use rates::Panel;

/// Draw records as SVG: kernels on their roofline, tokens per second by depth, memory
///
/// A record is the output of `wgpt bench model` or `wgpt bench kernels` with --output
/// json, also inside a file of benches/record or of gpu_bench.sh. Each kernel record
/// becomes a roofline with all of its rows. Model rows become lines of tokens per second
/// against the depth, and against the prompt's length if there are several lengths. Rows
/// of several contexts (--ctx-size) become lines of the planned memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench plot kernels.json roofline.svg
  wgpt bench plot before.json after.json rates.svg     the rows of both in one picture")]
pub struct Args {
    /// Records, then the picture to write
    #[arg(required = true, num_args = 2.., value_names = ["FILE.json", "OUT.svg"])]
    files: Vec<PathBuf>,
}

/// Runs `wgpt bench plot`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    // clap requires at least two files.
    let Some((out, inputs)) = args.files.split_last() else { return Ok(Outcome::Done) };
    let mut records = Records::default();
    for input in inputs {
        let Records { models, kernels } = Records::read(input)?;
        records.models.extend(models);
        records.kernels.extend(kernels);
    }
    save(out, &svg(&records)?)?;
    Ok(Outcome::Done)
}

/// Draws all records as one picture, one part below the other.
pub fn svg(records: &Records) -> anyhow::Result<String> {
    let panels = rates::panels(&records.models);
    let rooflines: Vec<_> = records.kernels.iter().filter(|record| !record.kernels.is_empty()).collect();
    let heights = rooflines.iter().map(|record| roofline::height(record));
    let heights: Vec<u32> = heights.chain(panels.iter().map(Panel::height)).collect();
    anyhow::ensure!(!heights.is_empty(), "there is no row to draw");
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
