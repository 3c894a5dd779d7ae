//! Time per kernel in one prefill and one decode step, measured per dispatch.

use std::time::Instant;

use super::model::{nanoseconds, tokens};
use super::statistics::quantile;
use super::timing::Clock;
use crate::engine::{CancelFlag, Engine, Session};
use crate::error::{Error, Result};
use crate::gpu::MemoryGroup;
use crate::model::DispatchTiming;

/// A profile of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Clock that timed the dispatches. With [`Clock::Wall`], each dispatch was submitted
    /// and awaited separately, and its time includes both.
    pub clock: Clock,
    /// The prefill of the prompt, in as many chunks as it needs.
    pub prefill: StepProfile,
    /// The decode of one token after the prompt.
    pub decode: StepProfile,
    /// Bytes of the weights on the GPU. A decode step reads nearly all of them.
    pub weights_bytes: u64,
}

/// A profile of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// "prefill" or "decode".
    pub name: &'static str,
    /// Number of tokens that the step adds.
    pub n_tokens: usize,
    /// Number of tokens before the step.
    pub position: usize,
    /// All dispatches in order, each with the median of its times.
    pub dispatches: Vec<DispatchTiming>,
    /// Median nanoseconds of the step without profiling, from the call until the logits
    /// are on the host.
    pub step_ns: u64,
}

/// All dispatches of one kernel variant with one grid size in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTime {
    /// Name of the kernel variant.
    pub variant: String,
    /// Workgroups of each dispatch. They distinguish matrices of different sizes.
    pub workgroups: [u32; 3],
    /// Number of dispatches.
    pub calls: usize,
    /// Total nanoseconds of these dispatches.
    pub total_ns: u64,
}

impl StepProfile {
    /// Returns the total nanoseconds of all dispatches.
    #[must_use]
    pub fn kernels_ns(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.duration_ns).sum()
    }

    /// Returns the dispatches grouped by variant and grid size, the longest total time
    /// first.
    #[must_use]
    pub fn by_kernel(&self) -> Vec<KernelTime> {
        let mut kernels: Vec<KernelTime> = Vec::new();
        for DispatchTiming { label, workgroups, duration_ns } in &self.dispatches {
            let same =
                |kernel: &&mut KernelTime| kernel.variant == *label && kernel.workgroups == *workgroups;
            match kernels.iter_mut().find(same) {
                Some(kernel) => {
                    kernel.calls += 1;
                    kernel.total_ns += duration_ns;
                }
                None => kernels.push(KernelTime {
                    variant: label.clone(),
                    workgroups: *workgroups,
                    calls: 1,
                    total_ns: *duration_ns,
                }),
            }
        }
        // The sort is stable: kernels of equal time keep the order of the pass.
        kernels.sort_by_key(|kernel| std::cmp::Reverse(kernel.total_ns));
        kernels
    }
}

/// Returns token ids for a profile without a text. They are scattered over the vocabulary
/// and are the same in every run.
#[must_use]
pub fn profile_tokens(engine: &Engine, n: usize) -> Vec<u32> {
    tokens(engine.vocab_size()).take(n).collect()
}

/// Profiles the prefill of `prompt` and the decode step after it. Each has one warm-up
/// and then `repetitions` runs, whose medians are reported.
///
/// # Errors
/// [`Error::Input`] for an empty prompt, for a prompt that leaves no position for the
/// decode step, and for no repetitions; [`Error::Cancelled`] by `cancel`; errors of the
/// device.
pub fn profile(engine: &Engine, prompt: &[u32], repetitions: usize, cancel: &CancelFlag) -> Result<Profile> {
    if repetitions == 0 {
        return Err(Error::input("a profile needs at least one repetition"));
    }
    if prompt.is_empty() || prompt.len() >= engine.n_ctx() {
        return Err(Error::input(format!(
            "a prompt of {} tokens: a profile takes 1 to {}, since the decode step after it needs one of the \
             {} positions of the context",
            prompt.len(),
            engine.n_ctx() - 1,
            engine.n_ctx()
        )));
    }
    let mut session = engine.session();
    session.set_cancel(cancel.clone());
    let prefill = profile_step(&mut session, "prefill", prompt, repetitions)?;
    let decode = profile_step(&mut session, "decode", &prompt[..1], repetitions)?;
    Ok(Profile {
        clock: if engine.gpu().has_timestamps() { Clock::Gpu } else { Clock::Wall },
        prefill,
        decode,
        weights_bytes: engine.memory_plan().group_bytes(MemoryGroup::Weights),
    })
}

/// Profiles one step that adds `tokens`. They remain in the session.
fn profile_step(
    session: &mut Session,
    name: &'static str,
    tokens: &[u32],
    repetitions: usize,
) -> Result<StepProfile> {
    let position = session.len();
    let mut steps = Vec::with_capacity(repetitions);
    let mut runs = Vec::with_capacity(repetitions);
    // The first run of each kind is the warm-up.
    for _ in 0..=repetitions {
        session.truncate(position);
        let start = Instant::now();
        session.advance(tokens)?;
        steps.push(nanoseconds(start.elapsed()));
        session.truncate(position);
        runs.push(session.profile(tokens)?);
    }
    let mut dispatches = runs[1].clone();
    for (i, dispatch) in dispatches.iter_mut().enumerate() {
        dispatch.duration_ns = median_of(runs[1..].iter().map(|run| run[i].duration_ns));
    }
    let step_ns = median_of(steps[1..].iter().copied());
    Ok(StepProfile { name, n_tokens: tokens.len(), position, dispatches, step_ns })
}

fn median_of(samples: impl Iterator<Item = u64>) -> u64 {
    let samples: Vec<f64> = samples.map(|ns| ns as f64).collect();
    quantile(&samples, 0.5).round() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::ModelFiles;
    use crate::gpu::{Gpu, GpuOptions};
    use crate::model::{ModelOptions, random};

    #[test]
    fn a_profiled_step_has_the_results_of_a_plain_one() {
        let config = random::shape("n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=64").unwrap();
        for features_floor in [false, true] {
            let gpu = Gpu::open(&GpuOptions { features_floor, ..GpuOptions::default() }).expect("an adapter");
            let files = ModelFiles::random(config.clone(), 5).unwrap();
            // With chunks of 16, the prompt of 40 tokens has three.
            let options = ModelOptions { prefill_chunk: 16, ..ModelOptions::default() };
            let proceed = &mut |_| std::ops::ControlFlow::Continue(());
            let engine = Engine::load(files, Arc::new(gpu), &options, proceed).unwrap();
            let prompt = profile_tokens(&engine, 40);
            let (mut plain, mut profiled) = (engine.session(), engine.session());
            plain.prefill(&prompt).unwrap();
            profiled.profile(&prompt).unwrap();
            plain.advance(&[7]).unwrap();
            let decode = profiled.profile(&[7]).unwrap();
            assert_eq!(plain.tokens(), profiled.tokens());
            assert_eq!(plain.advance(&[8]).unwrap(), profiled.advance(&[8]).unwrap());
            // The plain step encodes the same number of dispatches.
            let before = engine.gpu().step_timings();
            plain.advance(&[9]).unwrap();
            let taken = engine.gpu().step_timings().since(before);
            assert_eq!((taken.dispatches, taken.submits), (decode.len() as u64, 1));
            assert!(profiled.profile(&[301]).is_err());
        }
    }

    #[test]
    fn dispatches_are_summed_by_variant_and_size() {
        let dispatch = |label: &str, n, duration_ns| DispatchTiming {
            label: label.into(),
            workgroups: [n, 1, 1],
            duration_ns,
        };
        let dispatches = vec![
            dispatch("a", 1, 5),
            dispatch("b", 1, 7),
            dispatch("a", 1, 4),
            dispatch("c", 1, 7),
            dispatch("a", 2, 8),
        ];
        let step = StepProfile { name: "decode", n_tokens: 1, position: 3, dispatches, step_ns: 20 };
        let kernel = |variant: &str, n, calls, total_ns| KernelTime {
            variant: variant.into(),
            workgroups: [n, 1, 1],
            calls,
            total_ns,
        };
        let expected =
            [kernel("a", 1, 2, 9), kernel("a", 2, 1, 8), kernel("b", 1, 1, 7), kernel("c", 1, 1, 7)];
        assert_eq!(step.by_kernel(), expected);
        assert_eq!(step.kernels_ns(), 31);
    }
}
