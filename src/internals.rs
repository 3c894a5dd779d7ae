//! The door: access to the rooms that are otherwise private, for the program `wgpt`, for
//! benchmarks, and for tests of kernels. Nothing here is stable.
//!
//! Each item is either sound or an `unsafe fn` with a `# Safety` section. A [`kernels`]
//! recording compiles shaders with bounds checks unless [`gpu::Recorder::unchecked`] made
//! it. A kernel candidate comes from the library's own lists unless
//! [`kernels::Candidate::foreign`] made it.

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

/// The kernels' test cases and the canary.
pub mod conformance {
    pub use crate::conformance::{Dropped, Outcome, Shapes, canary};

    /// Lists of cases. A case cannot be created here, because its kernels run unchecked.
    pub mod cases {
        pub use crate::conformance::cases::{Case, Cost, all, quick};
    }
}

/// The search for the fastest kernels, and the file of its choices.
pub mod tune {
    pub use crate::tune::*;
}
