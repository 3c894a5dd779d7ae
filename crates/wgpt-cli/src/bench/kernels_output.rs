//! Results of `wgpt bench kernels` as markdown, CSV or JSON.

use wgpt::internals::bench::{Clock, KernelFigures, KernelRecord, KernelRow, LatencyRow, Roofline};

use crate::output::bytes;
use crate::results::{Format, Sink};
use crate::table::{Table, csv_line, number, time};

/// Prints rows as they are measured if the format allows it.
pub struct Writer {
    format: Format,
    sink: Sink,
    table: Table<9>,
    record: KernelRecord,
}

impl Writer {
    /// Creates the writer and prints the text before the rows.
    pub fn new(format: Format, mut sink: Sink, record: KernelRecord) -> anyhow::Result<Self> {
        let table = Table::new([
            ("model", 11),
            ("kernel", 44),
            ("variant", 20),
            ("cache", 5),
            ("median", -8),
            ("p10 to p90", -19),
            ("GB/s", -7),
            ("GFLOP/s", -7),
            ("% of roof", -9),
        ]);
        if format == Format::Markdown {
            sink.print(&(roofline(&record) + "\n" + &table.head()))?;
        }
        Ok(Writer { format, sink, table, record })
    }

    /// Adds rows.
    pub fn rows(&mut self, rows: Vec<KernelRow>) -> anyhow::Result<()> {
        for row in rows {
            match self.format {
                Format::Markdown => self.sink.print(&self.table.row(&cells(&row.figures)))?,
                Format::Csv => {
                    let first = self.record.kernels.is_empty();
                    self.sink.print(&csv_line(&(&row.figures, &self.record.header), first)?)?;
                }
                Format::Json | Format::JsonLines => {}
            }
            self.record.kernels.push(row);
        }
        Ok(())
    }

    /// Prints the text after the rows, or for JSON the whole record, and returns the
    /// record.
    pub fn finish(mut self, complete: bool) -> anyhow::Result<KernelRecord> {
        self.record.complete = complete;
        match self.format {
            Format::Json | Format::JsonLines => self.sink.print_json(&self.record)?,
            Format::Markdown => {
                let header = &self.record.header;
                self.sink.print(&format!(
                    "\nwgpt {}, wgpu {}, kernels {}, {}\n",
                    header.wgpt_version, header.wgpu_version, header.kernel_hash, header.test_time
                ))?;
            }
            Format::Csv => {}
        }
        self.sink.finish()?;
        Ok(self.record)
    }
}

fn cells(figures: &KernelFigures) -> [String; 9] {
    let KernelFigures { model, case, variant, cache, median_ns, p10_ns, p90_ns, .. } = figures;
    [
        if model.is_empty() { "-".to_owned() } else { model.clone() },
        case.clone(),
        variant.clone(),
        cache.name().to_owned(),
        time(*median_ns),
        format!("{} to {}", time(*p10_ns), time(*p90_ns)),
        number(figures.gb_per_second),
        number(figures.gflop_per_second),
        number(figures.roofline_percent),
    ]
}

/// Formats the adapter's limits as text and as a table.
fn roofline(record: &KernelRecord) -> String {
    let roof = &record.roofline;
    let best = |probe: &str| {
        let row = roof.best(probe);
        let rate = number(row.map(|row| row.per_second / 1e9));
        (rate, row.map_or(String::new(), |row| row.shape.clone()))
    };
    let ((copy, copy_shape), (read, read_shape), (fma, fma_shape)) =
        (best("copy"), best("read"), best("fma"));
    let mut text = format!(
        "{}\ncopy {copy} GB/s ({copy_shape}), read {read} GB/s ({read_shape}), f32 multiply-add {fma} GFLOP/s \
         ({fma_shape})\n",
        record.header.place(),
    );
    text += &match roof.clock {
        Clock::Gpu => "times from GPU timestamps".to_owned(),
        Clock::Wall => format!(
            "times from the wall clock; rates exclude the {} of a submit with one minimal dispatch",
            time(roof.overhead_ns)
        ),
    };
    if record.cold_bytes > 0 {
        text += &format!("; cold: after a copy of {}", bytes(record.cold_bytes));
    }
    text + "\n\n" + &latency(roof)
}

fn latency(roof: &Roofline) -> String {
    let table = Table::new([
        ("dispatches per pass", -19),
        ("dependent, each", -15),
        ("independent, each", -17),
        ("submit and wait", -15),
    ]);
    let mut text = table.head();
    for row in roof.latency.iter().filter(|row| row.dependent) {
        let other =
            roof.latency.iter().find(|other| !other.dependent && other.n_dispatches == row.n_dispatches);
        text += &table.row(&[
            row.n_dispatches.to_string(),
            time(row.per_dispatch_ns()),
            other.map(LatencyRow::per_dispatch_ns).map_or_else(|| "-".to_owned(), time),
            time(row.wall.median_ns),
        ]);
    }
    text
}
