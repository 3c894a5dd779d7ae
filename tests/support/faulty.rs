//! Faulty implementations, like those a driver could make of correct ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use wgpt::internals::gpu::Kernel;
use wgpt::internals::kernels::{Candidate, Op};

/// Returns a correct implementation by name.
pub fn named(op: Op, name: &str) -> &'static Candidate {
    format!("{op}={name}").parse().expect("a sound candidate")
}

/// Copies `candidate` under another name, with `from` replaced in its shader.
pub fn corrupted(
    candidate: &'static Candidate,
    name: &'static str,
    from: &str,
    to: &str,
) -> &'static Candidate {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let kernel = candidate.kernels()[0];
    assert_eq!(kernel.source.matches(from).count(), 1, "{from}");
    let source: &'static str = Box::leak(kernel.source.replace(from, to).into_boxed_str());
    let kernel: &'static Kernel =
        Box::leak(Box::new(Kernel { name: kernel.name, source, bindings: kernel.bindings }));
    // A constant that no shader reads distinguishes its label from the correct one's.
    let copy = COPIES.fetch_add(1, Ordering::Relaxed) as u32;
    let constants = [candidate.constants(), &[("COPY", copy)]].concat();
    altered(candidate, name, Box::leak(Box::new([kernel])), Box::leak(constants.into_boxed_slice()))
}

/// A copy of `candidate` under another name, with other shaders and constants.
#[allow(unsafe_code, reason = "a planted fault is a foreign shader")]
pub fn altered(
    candidate: &'static Candidate,
    name: &'static str,
    kernels: &'static [&'static Kernel],
    constants: &'static [(&'static str, u32)],
) -> &'static Candidate {
    // SAFETY: the faults that tests plant compute wrong numbers or write into the guard
    // words after an output. The case's buffers have these words, and no fault writes
    // outside its buffers.
    Box::leak(Box::new(unsafe { candidate.foreign(name, kernels, constants) }))
}

/// Returns layer normalizations that a faulty driver could make of the correct one: a
/// wrong sum, a write past the rows, one that does not compile. Each comes with its
/// expected message.
pub fn faulty() -> [(&'static Candidate, &'static str); 3] {
    let sound = named(Op::LayerNorm, "per_thread");
    let stray = "out[step.n_rows * params.stride4] = vec4<f32>(1.0);\n    let factor =";
    [
        (corrupted(sound, "wrong_sum", "squares += d * d;", "squares += d;"), "225 wrong elements"),
        (corrupted(sound, "stray", "let factor =", stray), " 0 wrong elements, 4 stray writes"),
        (corrupted(sound, "refused", "return;", "return 1;"), "compile"),
    ]
}
