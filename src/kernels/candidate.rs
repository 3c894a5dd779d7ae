//! Ways of computing an operation, as data: what may run on a device, what is
//! taken there unless something else is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Fragment, Kernel, Strategy, Variant};
use crate::tensor::DType;

/// An operation that has more than one implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Op {
    /// Layer normalization of rows.
    LayerNorm,
    /// Matrix times a few rows: decode.
    Gemv,
    /// The same behind a layer normalization, with the append of k and v.
    NormGemv,
    /// RMS normalization of rows.
    RmsNorm,
    /// As `NormGemv` behind an RMS normalization.
    RmsGemv,
    /// Matrix times many rows: prefill.
    Gemm,
    /// Causal attention of a chunk's rows.
    AttentionPrefill,
    /// Attention of single rows, each over its own sequence.
    AttentionDecode,
    /// Log-probabilities of tokens from rows of logits.
    Score,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 9] = [
        Op::LayerNorm,
        Op::Gemv,
        Op::NormGemv,
        Op::RmsNorm,
        Op::RmsGemv,
        Op::Gemm,
        Op::AttentionPrefill,
        Op::AttentionDecode,
        Op::Score,
    ];

    /// The name that `--variant` takes and reports print.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Op::LayerNorm => "layer_norm",
            Op::Gemv => "gemv",
            Op::NormGemv => "norm_gemv",
            Op::RmsNorm => "rms_norm",
            Op::RmsGemv => "rms_gemv",
            Op::Gemm => "gemm",
            Op::AttentionPrefill => "attention_prefill",
            Op::AttentionDecode => "attention_decode",
            Op::Score => "score",
        }
    }

    /// Its implementations; within a strategy the preferred one first.
    #[must_use]
    pub fn candidates(self) -> &'static [Candidate] {
        match self {
            Op::LayerNorm => super::layer_norm::CANDIDATES,
            Op::Gemv => super::gemv::CANDIDATES,
            Op::NormGemv => super::norm_gemv::CANDIDATES,
            Op::RmsNorm => super::rms_norm::CANDIDATES,
            Op::RmsGemv => super::norm_gemv::RMS_CANDIDATES,
            Op::Gemm => super::gemm::CANDIDATES,
            Op::AttentionPrefill => super::attention_prefill::CANDIDATES,
            Op::AttentionDecode => super::attention_decode::CANDIDATES,
            Op::Score => super::score::CANDIDATES,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an implementation asks of a device beyond the portable floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Floor,
    /// Subgroup operations.
    Subgroups,
    /// 64-bit integers in shaders: two f32 or four f16 a load. CPU adapters
    /// gather each element of a load by itself, so that half as many gathers
    /// are half the time (benches/record/NOTES.md).
    Int64,
    /// 64-bit integers, and subgroups of four threads or more, which pass on what each has
    /// loaded.
    Int64AndQuads,
    /// Cooperative matrices of this size, 8 or 16, of f16 with sums in f32.
    CooperativeMatrix(u32),
}

impl Needs {
    /// What a strategy asks for by itself.
    pub(super) const fn of(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Subgroup => Needs::Subgroups,
            Strategy::PerThread | Strategy::Workgroup => Needs::Floor,
        }
    }
}

/// One implementation of an operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The operation.
    pub(crate) op: Op,
    /// Its name among the operation's.
    pub(crate) name: &'static str,
    /// How it divides the work; devices prefer one strategy.
    pub(crate) strategy: Strategy,
    /// What it asks of the device.
    pub(crate) needs: Needs,
    /// Its shaders, in the order of their dispatches.
    pub(crate) kernels: &'static [&'static Kernel],
    /// Tile sizes and the like, `const` lines in front of the shaders.
    pub(crate) constants: &'static [(&'static str, u32)],
}

impl Candidate {
    /// The operation.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn op(&self) -> Op {
        self.op
    }

    /// Its name among the operation's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How it divides the work.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// What it needs from the device.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn needs(&self) -> Needs {
        self.needs
    }

    /// Its shaders, in the order of their dispatches.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn kernels(&self) -> &'static [&'static Kernel] {
        self.kernels
    }

    /// Tile sizes and the like, `const` lines before the shaders.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn constants(&self) -> &'static [(&'static str, u32)] {
        self.constants
    }

    /// Whether a device can run it.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn runs_on(&self, device: &Capabilities) -> bool {
        match self.needs {
            Needs::Floor => true,
            Needs::Subgroups => device.subgroups,
            Needs::Int64 => device.int64,
            Needs::Int64AndQuads => device.int64 && device.quads,
            Needs::CooperativeMatrix(size) => device.cooperative.has(size),
        }
    }

    /// One of its constants.
    ///
    /// # Panics
    /// When there is no such constant: the tables are part of the program.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn constant(&self, name: &str) -> u32 {
        let found = self.constants.iter().find(|(other, _)| *other == name);
        found.unwrap_or_else(|| panic!("{self} has no constant {name}")).1
    }

    /// Its shader number `index` with fragments in front, with its own constants
    /// and `more`.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn variant(
        &self,
        index: usize,
        fragments: Vec<Fragment>,
        more: &[(&'static str, u32)],
    ) -> Variant {
        let constants = self.constants.iter().chain(more).copied().collect();
        Variant { kernel: self.kernels[index], strategy: self.strategy, fragments, constants }
    }

    /// Whether its loads are 64 bits wide.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn is_wide(&self) -> bool {
        matches!(self.needs, Needs::Int64 | Needs::Int64AndQuads)
    }

    /// Whether four threads of a subgroup load an input together.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn loads_in_quads(&self) -> bool {
        self.needs == Needs::Int64AndQuads
    }

    /// Whether it rounds its operands to f16, activations included: 11 bits of
    /// each factor are left, values beyond 65504 become 65504, NaN may become a
    /// number, and what is below 2^-14 may become zero.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn rounds_to_f16(&self) -> bool {
        matches!(self.needs, Needs::CooperativeMatrix(_))
    }

    /// Into how many parts it divides a sum over k where rows are few.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn splits(&self) -> u32 {
        self.constants.iter().find(|(name, _)| *name == "SPLITS").map_or(1, |(_, splits)| *splits)
    }

    /// Whether every output is the same sum in the same order however many rows
    /// there are: not where few rows are summed in parts, nor on matrix units,
    /// whose order nobody promises.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn is_deterministic(&self) -> bool {
        self.splits() == 1 && !self.rounds_to_f16()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.op, self.name)
    }
}

/// Reads `op=name`, as `--variant` takes it.
impl FromStr for &'static Candidate {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown = |what: &str, found: &str, known: Vec<&str>| {
            Error::input(format!(
                "variant {s:?}: unknown {what} {found:?}; expected one of {}",
                known.join(", ")
            ))
        };
        let Some((op, name)) = s.split_once('=') else {
            return Err(Error::input(format!("variant {s:?}: expected OP=NAME, such as gemm=tile_64x64")));
        };
        let found = Op::ALL.into_iter().find(|known| known.name() == op);
        let op = found.ok_or_else(|| unknown("operation", op, Op::ALL.map(Op::name).to_vec()))?;
        let all = op.candidates();
        all.iter().find(|candidate| candidate.name == name).ok_or_else(|| {
            unknown(&format!("variant of {op}"), name, all.iter().map(|candidate| candidate.name).collect())
        })
    }
}

/// The implementation of each operation that a model runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    chosen: [&'static Candidate; Op::ALL.len()],
}

impl Choices {
    /// What a device runs untuned, with `forced` in place of it.
    ///
    /// # Errors
    /// [`Error::Input`] for a forced one that the device cannot run.
    pub fn new(device: &Capabilities, forced: &[&'static Candidate]) -> Result<Self> {
        let mut choices = Choices { chosen: Op::ALL.map(|op| default(op, device)) };
        for candidate in forced {
            if !candidate.runs_on(device) {
                return Err(Error::input(format!(
                    "variant {candidate} needs {:?}, which this device does not offer (or \
                     GpuOptions::features_floor excludes)",
                    candidate.needs
                )));
            }
            choices.set(candidate);
        }
        Ok(choices)
    }

    /// These choices for a model: what it must not run gives way to what the
    /// device runs untuned. `deterministic` bars
    /// implementations whose sums depend on the number of rows; matrices in f32
    /// bar those that would round them to f16.
    #[must_use]
    pub fn for_model(mut self, device: &Capabilities, deterministic: bool, dtype: DType) -> Self {
        for (op, chosen) in Op::ALL.into_iter().zip(&mut self.chosen) {
            let barred = (deterministic && !chosen.is_deterministic())
                || (dtype == DType::F32 && chosen.rounds_to_f16());
            if barred {
                *chosen = default(op, device);
            }
        }
        self
    }

    /// The implementation of `op`.
    #[must_use]
    pub fn get(&self, op: Op) -> &'static Candidate {
        self.chosen[op as usize]
    }

    /// The names of all operations, and of what is taken for each: for reports.
    #[must_use]
    pub fn names(&self) -> BTreeMap<&'static str, &'static str> {
        Op::ALL.map(|op| (op.name(), self.get(op).name)).into()
    }

    /// Takes `candidate` for its operation.
    pub fn set(&mut self, candidate: &'static Candidate) {
        self.chosen[candidate.op as usize] = candidate;
    }
}

/// The first of the device's strategy that it can run. Each operation has one
/// for each strategy on the floor, but for subgroups, whose place the workgroup
/// strategy takes.
fn default(op: Op, device: &Capabilities) -> &'static Candidate {
    let runnable =
        |strategy: Strategy| op.candidates().iter().find(|c| c.strategy == strategy && c.runs_on(device));
    runnable(device.strategy)
        .or_else(|| runnable(Strategy::Workgroup))
        .unwrap_or_else(|| panic!("{op} has no implementation on the floor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::CooperativeSizes;

    fn device(strategy: Strategy, all: bool) -> Capabilities {
        let cooperative = CooperativeSizes { eight: all, sixteen: all };
        Capabilities { strategy, subgroups: all, quads: all, int64: all, cooperative }
    }

    #[test]
    fn every_operation_has_an_implementation_on_every_floor() {
        for strategy in [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup] {
            let choices = Choices::new(&device(strategy, false), &[]).unwrap();
            for op in Op::ALL {
                let chosen = choices.get(op);
                assert_eq!((chosen.op, chosen.needs), (op, Needs::Floor));
                assert_eq!(
                    chosen.strategy == Strategy::PerThread,
                    strategy == Strategy::PerThread,
                    "{chosen}"
                );
            }
        }
    }

    #[test]
    fn names_are_read_back_and_unique() {
        for candidate in Op::ALL.iter().flat_map(|op| op.candidates()) {
            let read: &'static Candidate = candidate.to_string().parse().unwrap();
            assert_eq!(read, candidate);
        }
    }

    #[test]
    fn unknown_and_impossible_variants_are_errors() {
        let error = |text: &str| text.parse::<&'static Candidate>().unwrap_err().to_string();
        assert!(error("gemm").contains("expected OP=NAME"), "{}", error("gemm"));
        assert!(error("gem=x").contains("expected one of layer_norm, gemv"), "{}", error("gem=x"));
        assert!(error("gemm=x").contains("per_thread_4x8"), "{}", error("gemm=x"));
        let wide = Op::Gemv.candidates().iter().find(|c| c.is_wide()).unwrap();
        assert!(Choices::new(&device(Strategy::PerThread, false), &[wide]).is_err());
        let choices = Choices::new(&device(Strategy::Workgroup, true), &[wide]).unwrap();
        assert_eq!(choices.get(Op::Gemv), wide);
        let cooperative: &'static Candidate = "gemm=cooperative_16".parse().unwrap();
        let only_8 = CooperativeSizes { eight: true, sixteen: false };
        let device = Capabilities { cooperative: only_8, ..device(Strategy::Workgroup, true) };
        let error = Choices::new(&device, &[cooperative]).unwrap_err().to_string();
        assert!(error.contains("CooperativeMatrix(16)"), "{error}");
    }

    #[test]
    fn untuned_defaults_are_deterministic_and_exact() {
        for strategy in [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup] {
            let choices = Choices::new(&device(strategy, true), &[]).unwrap();
            for op in Op::ALL {
                assert!(choices.get(op).is_deterministic(), "{}", choices.get(op));
                assert!(!choices.get(op).rounds_to_f16(), "{}", choices.get(op));
            }
        }
    }

    #[test]
    fn a_model_runs_only_what_its_options_permit() {
        let device = device(Strategy::Workgroup, true);
        let default = Choices::new(&device, &[]).unwrap();
        let chosen = |name: &str, deterministic, dtype| {
            let forced: &'static Candidate = name.parse().unwrap();
            let choices = Choices::new(&device, &[forced]).unwrap();
            assert_eq!(choices.get(Op::Gemm), forced);
            choices.for_model(&device, deterministic, dtype) == default
        };
        for (name, deterministic, dtype, gives_way) in [
            ("gemm=split_4", false, DType::F16, false),
            ("gemm=split_4", true, DType::F16, true),
            ("gemm=split_4", false, DType::F32, false),
            ("gemm=cooperative_16", false, DType::F16, false),
            ("gemm=cooperative_16", true, DType::F16, true),
            ("gemm=cooperative_8", false, DType::F32, true),
            ("gemm=tile_128x64", true, DType::F32, false),
        ] {
            assert_eq!(chosen(name, deterministic, dtype), gives_way, "{name} {deterministic} {dtype}");
        }
    }
}
