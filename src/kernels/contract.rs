//! The guarantees that callers must give to run kernels without bounds checks, and the
//! two places where the library relies on them.
//!
//! Shaders run unchecked in the engine, because bounds checks and bounded loops cost time
//! in every inner loop. Each kernel checks its own ragged edges: rows, columns and keys
//! beyond the end. If the following statements hold for every dispatch, its accesses stay
//! within its buffers and workgroup arrays, its loops end, and no divisor is zero:
//!
//! 1. **Shader text and constants** are this library's own: a [`Variant`] composed by a file
//!    of this folder, or a [`Candidate`] of [`super::Op::candidates`].
//! 2. **Buffers** have at least the length that the recording function documents for the
//!    given sizes. `record` functions assert as much of this as they can.
//! 3. **[`Step`](super::Step)**: `n_rows` and `first_row + n_rows` are at most the number of
//!    rows of every bound activation buffer. `position + n_rows <= kv_len <= n_ctx`. The
//!    rotary table and the attention scratch have space for `n_ctx` positions.
//! 4. **[`Batch`](super::Batch)**: each row in use has `position < kv_len <= n_ctx`, and
//!    `first_page + ceil(kv_len / PAGE_SIZE)` is at most the length of the page table.
//! 5. **Page entries** of positions below `kv_len`, and inside the window if a layer has one,
//!    name a page inside a bound slab.
//! 6. **Score targets** are below the vocabulary's size. Token ids may have any value: the
//!    embedding kernel skips an id outside its piece of the table.
//! 7. **[`Work`](crate::gpu::Work)** of a run has the `n_rows` of its step. Its `kv_len` is
//!    at least that of the step.
//! 8. **Floats may have any bits**, including NaN and infinity: no kernel turns a float into
//!    an index without clamping it. Hidden states and logits may therefore be given to the
//!    host program, which may write to them.
//!
//! The model room keeps 3 to 7. `Forward` asserts chunk, batch and context sizes.
//! Sessions compare every token and target with the vocabulary. Page lists are private to
//! the KV cache. The conformance cases and the tuning trial (`model::Trial`) allocate
//! their own buffers and fill in matching steps. The tests run every kernel with the
//! checks on ([`GpuOptions::checked_shaders`](crate::gpu::GpuOptions::checked_shaders))
//! and off, with guard words around every output.
//!
//! [`Variant`]: crate::gpu::Variant
#![allow(unsafe_code, reason = "the contract's two uses are kept next to its statement")]

use super::Candidate;
use crate::gpu::{Gpu, Kernel, Params, Recorder};

/// Returns an empty recording without bounds checks. Only rooms of this library that keep
/// the contract may use it.
pub(crate) fn recorder<'g>(gpu: &'g Gpu, params: &'g mut Params) -> Recorder<'g> {
    // SAFETY: callers are inside this crate and record only through this folder's
    // functions (1, 2). The model room checks its callers' input (3 to 7). Cases, tuning
    // and probes make their buffers and steps themselves.
    unsafe { Recorder::unchecked(gpu, params) }
}

impl Candidate {
    /// Returns a candidate that differs in its shaders, for tests that plant faults.
    ///
    /// # Safety
    /// The shaders run without bounds checks wherever the candidate is selected. On a
    /// device without [`checked_shaders`](crate::gpu::GpuOptions::checked_shaders) they
    /// must keep the contract of [`crate::kernels::contract`], as `self` does.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const unsafe fn foreign(
        &self,
        name: &'static str,
        kernels: &'static [&'static Kernel],
        constants: &'static [(&'static str, u32)],
    ) -> Self {
        Candidate { name, preference: 0, kernels, constants, ..*self }
    }
}
