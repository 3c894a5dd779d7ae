//! Selects the next token with temperature, top-k, top-p, min-p and a seeded draw, or
//! selects the largest logit. The state stays on the GPU, so steps follow one another
//! without the host.
//!
//! Nothing is sorted. In descending order of logits, with ties in ascending order of id,
//! every filter keeps a prefix that ends at a cut. A draw visits the survivors in
//! ascending order of id. Weights are 64-bit integers (within 1.4e-9), so sums do not
//! depend on the adapter or on the order of additions. Results differ from the CPU's f64
//! only if a draw is within about 1e-9 of a border.

use super::fragments::{CHACHA, ORDER_KEY, SAMPLE, SAMPLE_WEIGHT, SCAN_PAIR, SURVIVORS, WIDE};
use crate::error::{Error, Result};
use crate::gpu::{
    Binding, BoundBuffer, BufferUse, Extent, Fragment, Gpu, GpuBuffer, Grid, Kernel, MemoryGroup, Recorder,
    Strategy, Variant,
};

static SAMPLE_MAX: Kernel = Kernel {
    name: "sample_max",
    source: include_str!("../../shaders/sample_max.wgsl"),
    bindings: &[Binding::read(2, "logits"), Binding::read_write(3, "chunks"), Binding::read_write(4, "bins")],
};

static SAMPLE_WEIGH: Kernel = Kernel {
    name: "sample_weigh",
    source: include_str!("../../shaders/sample_weigh.wgsl"),
    bindings: &[
        Binding::read(2, "logits"),
        Binding::read(3, "chunks"),
        Binding::read_write(4, "weights"),
        Binding::read_write(5, "bins"),
    ],
};

static SAMPLE_CUT: Kernel = Kernel {
    name: "sample_cut",
    source: include_str!("../../shaders/sample_cut.wgsl"),
    bindings: &[
        Binding::read(2, "logits"),
        Binding::read(3, "chunks"),
        Binding::read(4, "weights"),
        Binding::read(5, "bins"),
        Binding::read_write(6, "members"),
        Binding::read_write(7, "cut"),
    ],
};

static SAMPLE_SUM: Kernel = Kernel {
    name: "sample_sum",
    source: include_str!("../../shaders/sample_sum.wgsl"),
    bindings: &[Binding::read_write(5, "sums")],
};

static SAMPLE_DRAW: Kernel = Kernel {
    name: "sample_draw",
    source: include_str!("../../shaders/sample_draw.wgsl"),
    bindings: &[
        Binding::read(5, "chunks"),
        Binding::read(6, "sums"),
        Binding::read_write(7, "state"),
        Binding::read_write(8, "results"),
        Binding::read_write(9, "token_ids"),
    ],
};

/// One thread per bin, per digit and per chunk.
const WORKGROUP_SIZE: u32 = 256;
/// The shaders' `CHUNK`: logits per workgroup.
const CHUNK: usize = 2048;
/// Four bins for each of 42 octaves of weights, plus unused bins: one bin per thread.
const N_BINS: u32 = WORKGROUP_SIZE;

/// The longest row of logits: the last kernel has one thread per chunk.
pub const N_MAX: usize = CHUNK * WORKGROUP_SIZE as usize;
/// Bytes of a result slot: token, 1 for faulty logits, two unused words.
pub const RESULT_BYTES: u64 = 16;
/// The token of a result if none was chosen, because the state had stopped or the logits
/// are faulty.
pub const NO_TOKEN: u32 = u32::MAX;
/// Maximum number of stop ids in the parameters.
pub const STOP_IDS_MAX: usize = 8;

/// The weight of the largest logit in `common/sample_weight.wgsl`: 2^42, minus the
/// rounding error of its polynomial. A kernel test compares the two.
const WEIGHT_MAX: u64 = 0x03ff_ffff_e800;

/// The shaders' `SampleShape`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SampleShape {
    /// Logits per row.
    pub n: u32,
    /// Chunks per row.
    pub n_chunks: u32,
    /// Slots in the ring of results.
    pub n_slots: u32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// The shaders' `SampleParams`: constant while one text is generated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SampleParams {
    /// 1 to take the largest logit.
    pub greedy: u32,
    /// Tokens that top-k keeps; the largest u32 if it is off.
    pub top_k: u32,
    /// top-p as a fraction of 2^32; 0 if it is off.
    pub top_p: u32,
    /// Exponent of the unit in which distances between logits are counted.
    pub lsb: i32,
    /// Octaves of weight per unit, times 2^64.
    pub scale: u32,
    /// Number of used entries in `stop_ids`.
    pub n_stop_ids: u32,
    /// Smallest weight that min-p keeps: low word, high word.
    pub min_weight: [u32; 2],
    /// Tokens that stop the state.
    pub stop_ids: [u32; STOP_IDS_MAX],
}

impl SampleParams {
    /// Returns the parameters for the user's settings. `temperature` 0 is greedy; `top_k`
    /// 0, `top_p` 1 and `min_p` 0 are off. The state stops after it chooses a token in
    /// `stop_ids`.
    ///
    /// # Errors
    /// [`Error::Limits`] for more than [`STOP_IDS_MAX`] stop ids.
    pub fn new(temperature: f32, top_k: usize, top_p: f32, min_p: f32, stop_ids: &[u32]) -> Result<Self> {
        let n_stop_ids = stop_ids.len();
        if n_stop_ids > STOP_IDS_MAX {
            return Err(Error::Limits(format!(
                "sampling on the GPU: {n_stop_ids} stop ids, but at most {STOP_IDS_MAX} fit: sample on the \
                 CPU"
            )));
        }
        let mut all = [0; STOP_IDS_MAX];
        all[..n_stop_ids].copy_from_slice(stop_ids);
        let (lsb, scale) = unit(temperature);
        let least = (f64::from(min_p) * WEIGHT_MAX as f64).ceil() as u64;
        Ok(SampleParams {
            greedy: u32::from(temperature == 0.0),
            top_k: if top_k == 0 { u32::MAX } else { u32::try_from(top_k).unwrap_or(u32::MAX) },
            // At least 1, since 0 means off. Below 2^32, since `top_p` is below 1 in f32.
            top_p: if top_p < 1.0 { ((f64::from(top_p) * TWO_32) as u32).max(1) } else { 0 },
            lsb,
            scale,
            n_stop_ids: n_stop_ids as u32,
            min_weight: [least as u32, (least >> 32) as u32],
            stop_ids: all,
        })
    }
}

const TWO_32: f64 = 4_294_967_296.0;

/// Returns the exponent of the unit of distances, and the octaves per unit times 2^64.
/// The unit makes the latter a number from 2^31 to 2^32, which is an integer with full
/// precision.
fn unit(temperature: f32) -> (i32, u32) {
    if temperature == 0.0 {
        return (0, 0);
    }
    let octaves = std::f64::consts::LOG2_E / f64::from(temperature);
    // Temperatures range from 2^-149 to 2^128, so the powers stay within f64.
    let mut lsb = -33 - octaves.log2().floor() as i32;
    let mut scale = (octaves * 2f64.powi(lsb) * TWO_32 * TWO_32).round();
    if scale >= TWO_32 {
        lsb -= 1;
        scale = (scale / 2.0).round();
    }
    (lsb, scale as u32)
}

/// The shader's `SampleState`, which changes from step to step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SampleState {
    /// The key of ChaCha8.
    pub key: [u32; 8],
    /// Number of 64-bit numbers taken from the generator: low word, high word. A greedy
    /// choice takes none.
    pub draws: [u32; 2],
    /// 1 after a stop id or a fault. Later steps then choose no token.
    pub stopped: u32,
    /// Steps so far; selects the slot in the ring.
    pub step: u32,
}

impl SampleState {
    /// Returns the state before its first step. That step takes number `draws` of the
    /// generator, counted from 0.
    #[must_use]
    pub fn new(key: [u32; 8], draws: u64) -> Self {
        SampleState { key, draws: [draws as u32, (draws >> 32) as u32], stopped: 0, step: 0 }
    }
}

/// Buffers that pass values between the kernels, for rows of one length.
#[derive(Clone, Debug)]
pub struct SampleScratch {
    n: usize,
    /// `[n_chunks * CHUNK]` 64-bit weights
    weights: GpuBuffer,
    /// `[n]` ids
    members: GpuBuffer,
    /// `[n_chunks, 4]`
    chunks: GpuBuffer,
    /// `[n_chunks, 4]`
    sums: GpuBuffer,
    /// `[N_BINS, 3]`
    bins: GpuBuffer,
    /// `[1, 4]`
    cut: GpuBuffer,
}

impl SampleScratch {
    /// Returns the bytes of each buffer for rows of `n` logits.
    fn sizes(n: usize) -> [u64; 6] {
        let n_chunks = n.div_ceil(CHUNK) as u64;
        [n_chunks * CHUNK as u64 * 8, n as u64 * 4, n_chunks * 16, n_chunks * 16, u64::from(N_BINS) * 12, 16]
    }

    /// Returns the bytes of all buffers as allocated.
    #[must_use]
    pub fn bytes(n: usize) -> u64 {
        Self::sizes(n).into_iter().map(crate::gpu::rounded_bytes).sum()
    }

    /// Allocates the buffers.
    ///
    /// # Errors
    /// [`Error::Limits`] for more than [`N_MAX`] logits; otherwise as [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, n: usize) -> Result<Self> {
        if n > N_MAX {
            return Err(Error::Limits(format!(
                "sampling on the GPU: a vocabulary of {n} tokens, but at most {N_MAX} fit: sample on the CPU"
            )));
        }
        let allocate = |bytes| gpu.allocate("sample scratch", bytes, BufferUse::Storage, MemoryGroup::Logits);
        let [weights, members, chunks, sums, bins, cut] = Self::sizes(n).map(allocate);
        Ok(SampleScratch {
            n,
            weights: weights?,
            members: members?,
            chunks: chunks?,
            sums: sums?,
            bins: bins?,
            cut: cut?,
        })
    }
}

/// The choice of one token.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// `[n]`, with the `n` of the scratch.
    pub logits: &'a GpuBuffer,
    /// Scratch that no other choice uses in the same step.
    pub scratch: &'a SampleScratch,
    /// [`SampleParams`], as a uniform.
    pub params: BoundBuffer<'a>,
    /// [`SampleState`].
    pub state: &'a GpuBuffer,
    /// `[n_slots, 4]`. Step i of the state writes slot i modulo `n_slots`. It writes the
    /// token or [`NO_TOKEN`], then 1 if the logits are faulty (NaN, plus infinity, or all
    /// minus infinity).
    pub results: BoundBuffer<'a>,
    /// If a token is chosen, it is also written to element 0.
    pub token_ids: &'a GpuBuffer,
}

fn variant(kernel: &'static Kernel, fragments: &[Fragment], constants: &[(&'static str, u32)]) -> Variant {
    let fragments = [&[SAMPLE, ORDER_KEY], fragments].concat();
    let constants = [&[("WORKGROUP_SIZE", WORKGROUP_SIZE)], constants].concat();
    Variant { kernel, strategy: Strategy::Workgroup, fragments, constants }
}

fn draw_variant(greedy_only: bool) -> Variant {
    let fragments = [WIDE, SURVIVORS, SCAN_PAIR, CHACHA];
    variant(&SAMPLE_DRAW, &fragments, &[("GREEDY_ONLY", u32::from(greedy_only))])
}

fn max_variant() -> Variant {
    variant(&SAMPLE_MAX, &[], &[("N_BINS", N_BINS)])
}

fn weigh_variant() -> Variant {
    variant(&SAMPLE_WEIGH, &[WIDE, SAMPLE_WEIGHT], &[("N_BINS", N_BINS)])
}

fn cut_variant() -> Variant {
    variant(&SAMPLE_CUT, &[WIDE, SCAN_PAIR, SAMPLE_WEIGHT], &[])
}

fn sum_variant() -> Variant {
    variant(&SAMPLE_SUM, &[WIDE, SURVIVORS], &[])
}

/// Returns the kernels in the order in which they run, with both variants of the last one.
#[must_use]
pub fn variants() -> [Variant; 6] {
    let [draw, greedy] = [false, true].map(draw_variant);
    [max_variant(), weigh_variant(), cut_variant(), sum_variant(), draw, greedy]
}

/// Records `op`: five dispatches. If the parameters are greedy, the middle three return
/// immediately.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &Sample<'_>) -> Result<()> {
    record_max(recorder, op)?;
    let SampleScratch { weights, members, chunks, sums, bins, cut, .. } = op.scratch;
    let (shape, logits, params) = (op.shape(), op.logits.into(), op.params);
    let buffers = [params, logits, chunks.into(), weights.into(), bins.into()];
    recorder.dispatch(&weigh_variant(), &shape, &buffers, line(shape.n_chunks))?;
    let buffers = [params, logits, chunks.into(), weights.into(), bins.into(), members.into(), cut.into()];
    recorder.dispatch(&cut_variant(), &shape, &buffers, line(1))?;
    let buffers = [params, logits, weights.into(), cut.into(), sums.into()];
    recorder.dispatch(&sum_variant(), &shape, &buffers, line(shape.n_chunks))?;
    record_draw(recorder, op, false)
}

/// Records `op` for greedy parameters in two dispatches, without the code of the draw.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record_greedy(recorder: &mut Recorder<'_>, op: &Sample<'_>) -> Result<()> {
    record_max(recorder, op)?;
    record_draw(recorder, op, true)
}

fn line(groups: u32) -> Grid {
    Grid::Plane(Extent::Fixed(groups), Extent::Fixed(1))
}

impl Sample<'_> {
    fn shape(&self) -> SampleShape {
        let n = self.scratch.n;
        assert!(self.logits.bytes() >= (n * 4) as u64, "logits are too short");
        SampleShape {
            n: n as u32,
            n_chunks: n.div_ceil(CHUNK) as u32,
            n_slots: (self.results.bytes() / RESULT_BYTES) as u32,
            unused: 0,
        }
    }
}

fn record_max(recorder: &mut Recorder<'_>, op: &Sample<'_>) -> Result<()> {
    let SampleScratch { chunks, bins, .. } = op.scratch;
    let shape = op.shape();
    let buffers = [op.params, op.logits.into(), chunks.into(), bins.into()];
    recorder.dispatch(&max_variant(), &shape, &buffers, line(shape.n_chunks))
}

fn record_draw(recorder: &mut Recorder<'_>, op: &Sample<'_>, greedy_only: bool) -> Result<()> {
    let SampleScratch { weights, chunks, cut, sums, .. } = op.scratch;
    let buffers = [
        op.params,
        op.logits.into(),
        weights.into(),
        cut.into(),
        chunks.into(),
        sums.into(),
        op.state.into(),
        op.results,
        op.token_ids.into(),
    ];
    recorder.dispatch(&draw_variant(greedy_only), &op.shape(), &buffers, line(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_represent_the_octaves_without_loss() {
        for temperature in [f32::from_bits(1), 1e-30, 0.1, 0.8, 1.0, std::f32::consts::LOG2_E, 1e20, f32::MAX]
        {
            let (lsb, scale) = unit(temperature);
            assert!(scale >= 1 << 31, "{temperature}: {scale}");
            let octaves = f64::from(scale) / TWO_32 / TWO_32 / 2f64.powi(lsb);
            let want = std::f64::consts::LOG2_E / f64::from(temperature);
            assert!((octaves / want - 1.0).abs() < 3e-10, "{temperature}: {octaves} of {want}");
        }
    }

    #[test]
    fn disabled_filters_cut_nothing() {
        let off = SampleParams::new(1.0, 0, 1.0, 0.0, &[]).unwrap();
        assert_eq!((off.greedy, off.top_k, off.top_p, off.min_weight), (0, u32::MAX, 0, [0, 0]));
        let on = SampleParams::new(0.0, usize::MAX, 0.5, 1.0, &[7, 9]).unwrap();
        assert_eq!((on.greedy, on.top_k, on.top_p), (1, u32::MAX, 1 << 31));
        assert_eq!(u64::from(on.min_weight[1]) << 32 | u64::from(on.min_weight[0]), WEIGHT_MAX);
        assert_eq!((on.n_stop_ids, &on.stop_ids[..3]), (2, &[7, 9, 0][..]));
        let message = SampleParams::new(1.0, 0, 1.0, 0.0, &[0; 9]).unwrap_err().to_string();
        assert!(message.contains("9 stop ids, but at most 8 fit"), "{message}");
    }
}
