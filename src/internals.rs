//! The door: access to the rooms that are otherwise private, for the program `wgpt`, for
//! benchmarks, and for tests of kernels. Nothing here is stable.
//!
//! What it opens is sound or an `unsafe fn` with a `# Safety` section: a [`kernels`]
//! recording compiles shaders with bounds checks unless [`gpu::Recorder::unchecked`] made
//! it, a kernel candidate comes from the library's own lists unless
//! [`kernels::Candidate::foreign`] made it, and only [`conformance::prepare_case`] and
//! [`conformance::check_candidate`] run kernels with sizes from outside.

/// Measurements of the machine, of models and of kernels, and their records.
pub mod bench {
    pub use crate::bench::*;
}

/// Weight files, and the small files next to them.
pub mod checkpoint {
    pub use crate::checkpoint::*;
}

/// The check-up, with selectable kernel candidates.
pub mod doctor {
    pub use crate::doctor::benchmark::*;
    pub use crate::doctor::kernels::*;
    pub use crate::doctor::report::*;
    pub use crate::doctor::run_among;
    pub use crate::doctor::surroundings::*;
}

/// Steps before a model is loaded: the choice of kernels and sizes, and the check of
/// saved sessions.
pub mod engine {
    pub use crate::engine::{
        Selection, check_budget, check_saved, load_model, prepare, select, tune_model, tuned_shapes,
    };
}

/// Buffers, recordings, timestamps.
pub mod gpu {
    pub use crate::gpu::*;
}

/// The operations, one per file, with their kernel candidates and WGSL.
pub mod kernels {
    pub use crate::kernels::*;
}

/// The description of a model, its tensors, and random weights.
pub mod model {
    pub use crate::model::{
        Decoder, Dims, Model, STEPS_AHEAD_MAX, Weights, arch, check_tensors, decoder, random, rope, spec,
    };
}

/// The naive twins of the kernels.
pub mod reference {
    pub use crate::reference::*;
}

/// The sampler's candidate tokens.
pub mod sampling {
    pub use crate::sampling::*;
}

/// Padded axes.
pub mod tensor {
    pub use crate::tensor::*;
}

/// Templates that are known by name, and text without special tokens.
pub mod text {
    pub use crate::text::*;
}

/// Cases of kernels and the canary.
///
/// Kernels run without bounds checks, so a check with sizes from outside the library is
/// unsafe.
pub mod conformance {
    pub use crate::conformance::canary::cases as canary_cases;
    pub use crate::conformance::{Dropped, Outcome, Prepared, Shapes, cases};

    use crate::conformance::canary;
    use crate::error::Result;
    use crate::gpu::Gpu;
    use crate::kernels::{Candidate, Choices};

    /// Uploads the inputs of a case and records its kernels with the implementations that
    /// `choices` names.
    ///
    /// # Errors
    /// The errors of [`Gpu::allocate`], and [`crate::Error::Gpu`] if the driver refuses a
    /// shader.
    ///
    /// # Safety
    /// The sizes of the case are possible for its operation: none is 0, and they keep the
    /// bounds that [`crate::kernels::contract`] and the fields of the case state.
    #[allow(unsafe_code, reason = "the caller chooses the sizes of kernels that run unchecked")]
    pub unsafe fn prepare_case(gpu: &Gpu, case: &cases::Case, choices: &Choices) -> Result<Prepared> {
        case.prepare(gpu, choices)
    }

    /// Checks a kernel candidate as tuning does and returns its fault, if it has one.
    ///
    /// # Safety
    /// `shapes` are those of a model that the library can run.
    #[allow(unsafe_code, reason = "the caller chooses the sizes of kernels that run unchecked")]
    #[must_use]
    pub unsafe fn check_candidate(
        gpu: &Gpu,
        candidate: &'static Candidate,
        others: &Choices,
        shapes: &Shapes,
    ) -> Option<Dropped> {
        canary::check(gpu, candidate, others, shapes)
    }
}

/// The search for the fastest kernels, and the file of its choices.
pub mod tune {
    pub use crate::tune::*;
}
