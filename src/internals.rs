//! The door to the rooms that are private otherwise: for the program `wgpt`, for
//! benchmarks, and for tests of kernels. Nothing here is stable.
//!
//! What it opens is sound or an `unsafe fn` with a `# Safety` section: a [`kernels`]
//! recording compiles shaders with bounds checks unless it was made by
//! [`gpu::Recorder::unchecked`], and a kernel candidate comes from the library's own lists
//! unless it was made by [`kernels::Candidate::foreign`].

/// Readings of the machine, models and kernels timed, records.
pub mod bench {
    pub use crate::bench::*;
}

/// Files of weights, and the small files beside them.
pub mod checkpoint {
    pub use crate::checkpoint::*;
}

/// The check-up with chosen kernel candidates.
pub mod doctor {
    pub use crate::doctor::benchmark::*;
    pub use crate::doctor::kernels::*;
    pub use crate::doctor::report::*;
    pub use crate::doctor::run_among;
    pub use crate::doctor::surroundings::*;
}

/// How kernels and sizes are decided, and saved sessions checked, before a model is loaded.
pub mod engine {
    pub use crate::engine::{
        Selection, check_budget, check_saved, load_model, prepare, select, tune_model, tuned_shapes,
    };
}

/// Buffers, recordings, timestamps.
pub mod gpu {
    pub use crate::gpu::*;
}

/// One operation a file, its kernel candidates and their WGSL.
pub mod kernels {
    pub use crate::kernels::*;
}

/// The description of a model, its tensors, random weights.
pub mod model {
    pub use crate::model::{
        Decoder, Dims, Model, STEPS_AHEAD_MAX, Weights, arch, check_tensors, decoder, random, rope, spec,
    };
}

/// The naive twins of the kernels.
pub mod reference {
    pub use crate::reference::*;
}

/// The sampler's list of tokens.
pub mod sampling {
    pub use crate::sampling::*;
}

/// Padded axes.
pub mod tensor {
    pub use crate::tensor::*;
}

/// Templates that are known by name, text without special tokens.
pub mod text {
    pub use crate::text::*;
}

/// Cases of kernels and the canary.
pub mod conformance {
    pub use crate::conformance::{Dropped, Outcome, Shapes, canary};

    /// Lists of cases. A case cannot be made here, because its kernels run unchecked.
    pub mod cases {
        pub use crate::conformance::cases::{Case, Cost, all, quick};
    }
}

/// The search for the fastest kernels and its file of choices.
pub mod tune {
    pub use crate::tune::*;
}
