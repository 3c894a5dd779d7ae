//! `wgpt bench kernels`: each kernel variant separately, against the adapter's roofline.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::builder::PossibleValuesParser;
use wgpt::internals::bench::{
    Attends, Cache, Candidate, KernelBench, KernelOptions, KernelRecord, MODELS, Measured, OPS, RecordHeader,
    Subject,
};
use wgpt::{CancelFlag, DType, Error, Gpu, GpuOptions};

use super::kernels_output::Writer;
use super::{plot, record_file};
use crate::exit::Outcome;
use crate::interrupt;
use crate::model_args::{DeviceArgs, dtype, notices};
use crate::new_file::check_distinct;
use crate::output::{note, note_message};
use crate::progress::Bar;
use crate::results::{Sink, TableArgs};
use wgpt::files::NewFile;

/// Measure each kernel variant against the adapter's roofline
///
/// First measures the roofline: the fastest of several copies and reads (bytes per
/// second), the fastest of several chains of multiply-adds (f32 operations per second),
/// and the cost of 1, 64 and 200 minimal dispatches, dependent on each other or
/// independent. Then checks every variant that the adapter supports against the
/// reference, and measures it. Times come from GPU timestamps if the adapter has them,
/// otherwise from wall time minus the measured time of a submit. Warm: every repetition
/// uses the same buffers. Cold: before each repetition, a copy of --cold-mib replaces the
/// contents of the caches.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench kernels                                   the kernels of GPT-2 124M
  wgpt bench kernels --op gemv,gemm --shapes-of all    all four sizes of GPT-2
  wgpt bench kernels --op gemv --shape 4096x4096       any shape, outputs x inputs
  wgpt bench kernels --op attention_decode --shape 8000x9x64:kv=3:window=4096
  wgpt bench kernels --json -o record.json --plot roofline.svg

Format of --shape, by operation:
  gemv and rms_gemv NxK or MxNxK (a batch of M rows), norm_gemv NxK, gemm MxNxK or NxK (128 rows), gated,
  layer_norm and rms_norm ROWSxN, qk_norm ROWSxHEADSxHEAD_DIM (half of them k's), embedding TOKENSxN_EMBD, argmax
  and sample N, score ROWSxN, kv_append and attention_prefill ROWSxHEADSxHEAD_DIM, attention_decode and attention_reduce
  KV_LENxHEADSxHEAD_DIM. Attention and kv_append take options after the sizes, each after a colon: kv=N heads of k
  and v that the query heads share, window=N positions that a row sees, cap=X soft cap of the scores, depth=N
  positions before a prefill")]
pub struct Args {
    /// Operations to measure [default: all]
    #[arg(long, value_name = "OP,...", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(OPS.map(|(name, _)| name)))]
    op: Vec<String>,
    /// Shapes to measure instead of a model's, such as 768x3072; needs --op
    #[arg(
        long,
        value_name = "SHAPE,...",
        value_delimiter = ',',
        requires = "op",
        conflicts_with = "shapes_of"
    )]
    shape: Vec<Shape>,
    /// Models whose shapes to measure: gpt2, gpt2-medium, gpt2-large, gpt2-xl, all
    #[arg(long, alias = "model", value_name = "MODEL,...", value_delimiter = ',', default_value = "gpt2")]
    #[arg(value_parser = models())]
    shapes_of: Vec<String>,
    /// Measure only variants whose name contains TEXT
    #[arg(long, alias = "variant", value_name = "TEXT")]
    filter: Option<String>,
    /// States of the adapter's caches in which to measure
    #[arg(long, value_enum, value_name = "STATE,...", value_delimiter = ',', default_value = "warm,cold")]
    cache: Vec<CacheArg>,
    /// MiB to copy before each cold repetition; use at least twice the largest cache
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=4096))]
    cold_mib: u64,
    /// MiB that the bandwidth probes read [default: 128; 64 on software adapters]
    #[arg(long, value_name = "MIB")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=4096))]
    probe_mib: Option<u64>,
    /// Timed repetitions of each measurement
    #[arg(short, long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repetitions: u32,
    /// Time limit of a row in seconds; a row that reaches it has fewer samples, but at
    /// least three
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    max_seconds: Duration,
    /// Start no further row after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    total_seconds: Option<Duration>,
    /// Use wall time even if the adapter has timestamps
    #[arg(long)]
    wall: bool,
    /// Also draw the results as an SVG picture and write it to FILE
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Type of the weights and of the cached keys and values
    #[arg(long, value_name = "DTYPE", default_value = "f16", value_parser = dtype(), help_heading = "Model")]
    dtype: DType,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CacheArg {
    /// Each repetition uses the same buffers
    Warm,
    /// A copy of other data replaces the contents of the caches before each repetition
    Cold,
}

/// The sizes of a free shape, and its attention options.
#[derive(Clone, Debug, PartialEq)]
struct Shape(Vec<usize>, Attends);

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (sizes, options) = text.split_once(':').unwrap_or((text, ""));
        let sizes: Result<Vec<usize>, _> = sizes.split('x').map(str::parse).collect();
        let sizes =
            sizes.map_err(|_| format!("{text:?}: expected sizes separated by x, such as 768x3072"))?;
        let attends = options.parse().map_err(|error: Error| error.to_string())?;
        Ok(Shape(sizes, attends))
    }
}

fn models() -> PossibleValuesParser {
    PossibleValuesParser::new(MODELS.into_iter().chain(["all"]))
}

/// Parses a number of seconds from 0 to 86400, which is one day.
fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number of seconds from 0 to 86400".to_owned();
    let value: f64 = text.parse().map_err(|_| expected())?;
    if (0.0..=86_400.0).contains(&value) { Ok(Duration::from_secs_f64(value)) } else { Err(expected()) }
}

/// Runs `wgpt bench kernels`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let cancel = interrupt::flag();
    let (format, output) = args.table.resolve(None)?;
    check_distinct(&[("--plot", args.plot.as_deref()), ("--output", output)])?;
    let options = GpuOptions {
        device: args.device.device.clone(),
        backend: args.device.api.backend,
        features_floor: args.device.features_floor,
        ..GpuOptions::default()
    };
    let gpu = Gpu::open(&options)?;
    let subjects = subjects(args, gpu.max_binding_bytes())?;
    // Fails before the measurements if a file cannot be written.
    let picture = args.plot.as_deref().map(NewFile::create).transpose()?;
    let sink = Sink::open(output, None, [])?;
    notices(gpu.report()).iter().for_each(|line| note(line));
    let header = RecordHeader::new(&gpu);
    let Some(mut bench) = roofline(args, &gpu, cancel)? else {
        note("interrupted: nothing was measured");
        return Ok(Outcome::Interrupted);
    };
    let record = KernelRecord {
        header,
        repetitions: args.repetitions as usize,
        max_seconds: args.max_seconds.as_secs_f64(),
        cold_bytes: bench.cold_bytes(),
        complete: false,
        roofline: bench.roofline().clone(),
        kernels: Vec::new(),
    };
    let mut writer = Writer::new(format, sink, record)?;
    let end = match measure(args, started, &mut bench, &subjects, &mut writer) {
        Ok(end) => end,
        Err(error) => {
            // The rows so far are still valid results.
            writer.finish(false)?;
            return Err(error);
        }
    };
    let record = writer.finish(end.is_complete())?;
    if let Some(mut file) = picture {
        let records = record_file::Records { kernels: vec![record], ..Default::default() };
        file.write(plot::svg(&records)?.as_bytes())?;
        file.finish()?;
    }
    match end {
        End::Interrupted => {
            note("interrupted");
            Ok(Outcome::Interrupted)
        }
        End::OutOfTime(left) => {
            note(&format!("note: the time limit --total-seconds is over; {left} variants were not measured"));
            Ok(Outcome::Done)
        }
        End::Complete(0) => Ok(Outcome::Done),
        End::Complete(wrong) => {
            bail!("{wrong} variants computed wrong results and were not timed; the lines above name them")
        }
    }
}

/// Measures the roofline; returns `None` if interrupted.
fn roofline<'g>(args: &Args, gpu: &'g Gpu, cancel: CancelFlag) -> anyhow::Result<Option<KernelBench<'g>>> {
    let mut caches = Vec::new();
    for cache in &args.cache {
        let cache = match cache {
            CacheArg::Warm => Cache::Warm,
            CacheArg::Cold => Cache::Cold,
        };
        if !caches.contains(&cache) {
            caches.push(cache);
        }
    }
    let options = KernelOptions {
        repetitions: args.repetitions as usize,
        max_time: args.max_seconds,
        caches,
        cold_bytes: args.cold_mib << 20,
        probe_bytes: args.probe_mib.map(|mib| mib << 20),
        wall: args.wall,
    };
    let bar = Bar::new(1, "roofline  {msg}");
    match KernelBench::new(gpu, options, cancel, &mut |probe| bar.set(0, probe)) {
        Ok(bench) => Ok(Some(bench)),
        Err(Error::Cancelled) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How the measurement of the rows ended.
enum End {
    /// All variants were measured, except this many with wrong results.
    Complete(usize),
    /// The time limit left this many variants unmeasured.
    OutOfTime(usize),
    Interrupted,
}

impl End {
    fn is_complete(&self) -> bool {
        matches!(self, End::Complete(0))
    }
}

fn measure(
    args: &Args,
    started: Instant,
    bench: &mut KernelBench<'_>,
    subjects: &[Subject],
    writer: &mut Writer,
) -> anyhow::Result<End> {
    let wanted = |candidate: &Candidate| {
        args.filter.as_ref().is_none_or(|part| candidate.name.contains(part.as_str()))
    };
    let mut todo = Vec::new();
    for subject in subjects {
        let candidates = bench.candidates(subject).into_iter().filter(wanted);
        todo.extend(candidates.map(|candidate| (subject, candidate)));
    }
    if todo.is_empty() {
        let part = args.filter.as_deref().unwrap_or_default();
        return Err(Error::Input(format!(
            "--filter {part}: no variant of the selected operations has this text in its name"
        ))
        .into());
    }
    let bar = Bar::new(todo.len() as u64, "{msg}  {wide_bar} {pos}/{len}");
    let mut wrong = 0;
    for (done, (subject, candidate)) in todo.iter().enumerate() {
        if args.total_seconds.is_some_and(|total| started.elapsed() >= total) {
            return Ok(End::OutOfTime(todo.len() - done));
        }
        bar.set(done as u64, format!("{subject} [{}]", candidate.name));
        match bench.measure(subject, candidate) {
            Ok(Measured::Rows(rows)) => writer.rows(rows)?,
            Ok(Measured::Wrong(how)) => {
                wrong += 1;
                note(&format!("wrong result, not timed: {how}"));
            }
            // Other variants may fit the device's limits.
            Err(Error::Limits(message)) => {
                note_message(&format!("{subject} [{}]: {message}", candidate.name))
            }
            Err(Error::Cancelled) => return Ok(End::Interrupted),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(End::Complete(wrong))
}

/// Returns the cases of the free shapes or of the models, for the selected operations.
fn subjects(args: &Args, max_binding_bytes: u64) -> wgpt::Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    if !args.shape.is_empty() {
        for op in &args.op {
            for Shape(sizes, attends) in &args.shape {
                subjects.push(Subject::free(op, sizes, *attends, args.dtype, max_binding_bytes)?);
            }
        }
        return Ok(subjects);
    }
    let all = args.shapes_of.iter().any(|model| model == "all");
    for model in MODELS.into_iter().filter(|name| all || args.shapes_of.iter().any(|model| model == name)) {
        for subject in Subject::of_model(model, args.dtype, max_binding_bytes).unwrap_or_default() {
            let name = subject.to_string();
            let op = name.split(' ').next().unwrap_or_default();
            if args.op.is_empty() || args.op.iter().any(|wanted| wanted == op) {
                subjects.push(subject);
            }
        }
    }
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args)
    }

    fn names(line: &str) -> Vec<String> {
        let subjects = subjects(&parse(line).unwrap(), 1 << 27).unwrap();
        subjects.iter().map(|subject| format!("{}: {subject}", subject.model())).collect()
    }

    #[test]
    fn operations_models_and_shapes_select_the_cases() {
        assert_eq!(
            names("--op gemv,gemm --shape 8x16"),
            [": gemv m=1 n=8 k=16 f16", ": gemm m=128 n=8 k=16 f16"]
        );
        assert_eq!(
            names("--op attention_decode --shape 40x9x64:kv=3:window=16,40x2x8"),
            [
                ": attention_decode 9/3x64 f16 slabs=1 rows=1 at 39 window=16",
                ": attention_decode 2x8 f16 slabs=1 rows=1 at 39"
            ]
        );
        let gpt2 = names("--op gemv");
        assert_eq!(gpt2.len(), 5);
        assert_eq!(gpt2[0], "gpt2: gemv m=1 n=2304 k=768 f16 bias");
        assert_eq!(names("--op argmax --shapes-of all").len(), MODELS.len());
        assert_eq!(names("--op argmax --shapes-of gpt2-xl,gpt2").len(), 2);
        assert!(names("").len() > 15);
        assert!(names("--op gemv --shapes-of gpt2-xl").iter().any(|name| name.contains("pieces of")));
    }

    #[test]
    fn contradictory_arguments_are_refused() {
        for line in [
            "--shape 8x8",
            "--op gemv --shape 8x8 --shapes-of gpt2",
            "--op gemv --shape 8y8",
            "--op conv",
            "--op gemv --shape 8x8:kv",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["--max-seconds x", "--max-seconds -1", "--max-seconds NaN", "--cold-mib 0"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args = parse("--op gemv --shape 8x8x8x8").unwrap();
        assert!(subjects(&args, 1 << 27).unwrap_err().to_string().contains("gemv takes NxK"));
    }
}
