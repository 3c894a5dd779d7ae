//! Implementations of operations, as data: which of them a device can run, and which one
//! it runs by default.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::NormForm;
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
    /// `Gemv` after a layer normalization, with the append of k and v.
    NormGemv,
    /// RMS normalization of rows.
    RmsNorm,
    /// As `NormGemv`, but after an RMS normalization.
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
    /// All operations.
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

    /// Returns the name that `--variant` accepts and reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

    /// Returns the form of the norm that the operation computes, with or without a
    /// projection; `None` if it has no norm.
    #[must_use]
    pub const fn norm_form(self) -> Option<NormForm> {
        match self {
            Op::LayerNorm | Op::NormGemv => Some(NormForm::Layer),
            Op::RmsNorm | Op::RmsGemv => Some(NormForm::Rms),
            _ => None,
        }
    }

    /// Returns its implementations.
    #[must_use]
    pub fn candidates(self) -> &'static [Candidate] {
        match self {
            Op::LayerNorm => super::norm::LAYER_CANDIDATES,
            Op::Gemv => super::gemv::CANDIDATES,
            Op::NormGemv => super::norm_gemv::LAYER_CANDIDATES,
            Op::RmsNorm => super::norm::RMS_CANDIDATES,
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

/// The features beyond the portable floor that an implementation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Floor,
    /// Subgroup operations.
    Subgroups,
    /// 64-bit integers in shaders.
    Int64,
    /// 64-bit integers in shaders, and subgroups of at least four threads.
    Int64AndQuads,
    /// Cooperative f16 matrices of this size, 8 or 16, with sums in f32.
    CooperativeMatrix(u32),
}

impl Needs {
    /// Returns what a strategy needs.
    const fn of(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Subgroup => Needs::Subgroups,
            Strategy::PerThread | Strategy::Workgroup => Needs::Floor,
        }
    }
}

/// The width of the loads of a per-thread kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loads {
    /// In elements of 32 bits.
    Narrow,
    /// In elements of 64 bits: two f32 or four f16. Software adapters gather each element
    /// of a load separately, so half as many gathers take half the time
    /// (benches/record/DECISIONS.md).
    Wide,
    /// As `Wide`. In addition, four threads of a subgroup load an input together and
    /// exchange the loaded values.
    WideInQuads,
}

/// One implementation of an operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The operation.
    pub(crate) op: Op,
    /// Its name among the operation's.
    pub(crate) name: &'static str,
    /// The way it divides the work. Devices prefer one strategy.
    pub(crate) strategy: Strategy,
    /// What a device must have to run it.
    pub(crate) needs: Needs,
    /// Its rank among the untuned defaults. A device runs the candidate with the highest
    /// rank among those of its strategy that it can run. Candidates of rank 0 run only if
    /// they are tuned or forced.
    pub(crate) preference: u8,
    /// How its threads load values.
    pub(crate) loads: Loads,
    /// Rows and columns of the cooperative matrices that it multiplies, if any.
    pub(crate) matrix_side: Option<u32>,
    /// Its shaders, in the order of their dispatches.
    pub(crate) kernels: &'static [&'static Kernel],
    /// Its constants, such as tile sizes: `const` lines that precede the shaders.
    pub(crate) constants: &'static [(&'static str, u32)],
}

impl Candidate {
    /// Returns an implementation that is not a default. It needs the features of its
    /// strategy, loads narrow elements, and keeps operands in f32. The following methods
    /// change these properties.
    pub(super) const fn new(
        op: Op,
        name: &'static str,
        strategy: Strategy,
        kernels: &'static [&'static Kernel],
        constants: &'static [(&'static str, u32)],
    ) -> Self {
        let (needs, loads) = (Needs::of(strategy), Loads::Narrow);
        Candidate { op, name, strategy, needs, preference: 0, loads, matrix_side: None, kernels, constants }
    }

    /// Returns it as a default of this rank, which is above 0.
    pub(super) const fn preferred(self, preference: u8) -> Self {
        Candidate { preference, ..self }
    }

    /// Returns it with other loads and the features that they need.
    pub(super) const fn loading(self, loads: Loads) -> Self {
        let needs = match loads {
            Loads::Narrow => Needs::of(self.strategy),
            Loads::Wide => Needs::Int64,
            Loads::WideInQuads => Needs::Int64AndQuads,
        };
        Candidate { needs, loads, ..self }
    }

    /// Returns it with products of cooperative matrices of `side` by `side`, 8 or 16, and
    /// the features that they need.
    pub(super) const fn on_matrix_units(self, side: u32) -> Self {
        Candidate { needs: Needs::CooperativeMatrix(side), matrix_side: Some(side), ..self }
    }

    /// The operation.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn op(&self) -> Op {
        self.op
    }

    /// Its name among the operation's.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The way it divides the work.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The features that it needs from the device.
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

    /// Its constants, such as tile sizes: `const` lines that precede the shaders.
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

    /// Returns the value of one of its constants.
    ///
    /// # Panics
    /// If there is no such constant. The tables are part of the program.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn constant(&self, name: &str) -> u32 {
        let found = self.constants.iter().find(|(other, _)| *other == name);
        found.unwrap_or_else(|| panic!("{self} has no constant {name}")).1
    }

    /// Returns the variant of its shader with number `index`. `fragments` precede the
    /// shader. The constants are its own and `more`.
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

    /// Returns whether its loads are 64 bits wide.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn is_wide(&self) -> bool {
        self.loads != Loads::Narrow
    }

    /// Returns whether four threads of a subgroup load an input together.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn loads_in_quads(&self) -> bool {
        self.loads == Loads::WideInQuads
    }

    /// Returns whether it rounds its operands to f16, including activations. Each factor
    /// keeps 11 bits. Values beyond 65504 become 65504, NaN may become a number, and
    /// values below 2^-14 may become zero.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn rounds_to_f16(&self) -> bool {
        self.matrix_side.is_some()
    }

    /// Returns the number of parts into which it splits a sum over k if there are few rows.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn splits(&self) -> u32 {
        self.constants.iter().find(|(name, _)| *name == "SPLITS").map_or(1, |(_, splits)| *splits)
    }

    /// Returns whether every output is the same sum in the same order for any number of
    /// rows. This is false if few rows are summed in parts, and on matrix units, whose
    /// order of additions is unspecified.
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

/// Parses `op=name`, as `--variant` accepts it.
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

/// The implementation that a model runs for each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    chosen: [&'static Candidate; Op::ALL.len()],
}

impl Choices {
    /// Returns the untuned defaults of a device, except where `forced` names an implementation.
    ///
    /// # Errors
    /// [`Error::Input`] if the device cannot run a forced implementation.
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

    /// Returns these choices for a model. The device's untuned default replaces a barred
    /// implementation. `deterministic` bars implementations whose sums depend on the
    /// number of rows. f32 matrices bar implementations that would round them to f16.
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

    /// Returns the implementation of `op`.
    #[must_use]
    pub fn get(&self, op: Op) -> &'static Candidate {
        self.chosen[op as usize]
    }

    /// Returns the names of all operations and of their implementations, for reports.
    #[must_use]
    pub fn names(&self) -> BTreeMap<&'static str, &'static str> {
        Op::ALL.map(|op| (op.name(), self.get(op).name)).into()
    }

    /// Makes `candidate` the implementation of its operation.
    pub fn set(&mut self, candidate: &'static Candidate) {
        self.chosen[candidate.op as usize] = candidate;
    }
}

/// Returns the preferred implementation of the device's strategy. On the portable floor,
/// each operation has a default for every strategy except subgroups. A device with that
/// strategy then runs the default of the workgroup strategy.
fn default(op: Op, device: &Capabilities) -> &'static Candidate {
    let preferred = |strategy: Strategy| {
        let defaults = op.candidates().iter().filter(|c| c.preference > 0 && c.strategy == strategy);
        defaults.filter(|c| c.runs_on(device)).max_by_key(|c| c.preference)
    };
    preferred(device.strategy)
        .or_else(|| preferred(Strategy::Workgroup))
        .unwrap_or_else(|| panic!("{op} has no implementation on the floor"))
}

#[cfg(test)]
mod tests;
