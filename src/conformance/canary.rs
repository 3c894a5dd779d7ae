//! The canary: checks an implementation against its reference on the user's own driver
//! before it may run.

use super::Shapes;
use super::cases::{
    AfterProjection, AttentionCase, Case, KvShape, MatmulCase, NormCase, NormGemvCase, RotaryShape,
    ScoreCase, ScoreInput,
};
use crate::gpu::Gpu;
use crate::kernels::{Activation, Candidate, Choices, NormForm, Op};

/// An implementation that must not run on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The implementation.
    pub candidate: &'static Candidate,
    /// Description of its fault.
    pub reason: String,
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is dropped on this device: {}", self.candidate, self.reason)
    }
}

/// Returns the cases that check an implementation of `op`. They are few and small. They
/// use the model's types, head size and width, because the shaders depend on these. Other
/// sizes are not multiples of the tiles, so ragged edges are covered.
#[must_use]
pub fn cases(op: Op, shapes: &Shapes) -> Vec<Case> {
    let Shapes { n_embd, n_head, n_kv_head, head_dim, dtype, kv_dtype, .. } = *shapes;
    let group = n_head / n_kv_head.max(1);
    let kv =
        |n_kv_head| KvShape { n_head: group * n_kv_head, n_kv_head, head_dim, dtype: kv_dtype, n_slabs: 1 };
    let plain = |m, n, k| MatmulCase { bias: true, ..MatmulCase::plain(m, n, k, dtype) };
    let gelu = |case| MatmulCase { activation: Activation::GeluTanh, ..case };
    let residual = |case| MatmulCase { accumulate: true, ..case };
    let attention = |n_rows, position| AttentionCase::plain(kv(n_kv_head.min(2)), position, n_rows);
    let rotary = RotaryShape { n_head, n_kv_head, head_dim, rotary_dim: head_dim / 2 * 2 };
    let silu = Activation::Silu;
    // The forms of a projection in the model.
    let forms = |m, batch| {
        let gated = MatmulCase { bias: true, ..MatmulCase::gated(m, 43, 72, dtype, silu) };
        let rotated = MatmulCase::rotated(m, 20, dtype, rotary, 17, batch);
        shapes.gated.then_some(gated).into_iter().chain(shapes.rotary.then_some(rotated))
    };
    let after_norm = |norm| -> Vec<Case> {
        let mut all = vec![
            AfterProjection::Activation(Activation::GeluTanh, 33),
            AfterProjection::Cache(kv(n_kv_head)),
        ];
        all.extend(shapes.gated.then_some(AfterProjection::Gated(silu, 43)));
        all.extend(shapes.rotary.then_some(AfterProjection::Rotated(kv(n_kv_head), None)));
        let case = |after| Case::NormGemv(NormGemvCase::one_row(norm, n_embd, dtype, after));
        all.into_iter().map(case).collect()
    };
    let mut cases = match op {
        Op::LayerNorm => [(3, 0, n_embd), (1, 6, 75)]
            .map(|(n_rows, first_row, n)| {
                Case::Norm(NormCase { first_row, ..NormCase::rows(NormForm::Layer, n_rows, n) })
            })
            .to_vec(),
        Op::Gemv => vec![
            Case::Gemv(gelu(plain(1, 65, 511))),
            Case::Gemv(residual(plain(1, 33, n_embd))),
            Case::Gemv(plain(3, 33, 520)),
        ],
        Op::NormGemv => after_norm(NormForm::Layer),
        Op::RmsNorm => [(3, 0, n_embd, false), (2, 6, 75, true)]
            .map(|(n_rows, first_row, n, accumulate)| {
                let random = NormCase::rows(NormForm::Rms, n_rows, n);
                Case::Norm(NormCase { first_row, accumulate, ..random })
            })
            .to_vec(),
        Op::RmsGemv => {
            let mut cases = after_norm(NormForm::Rms);
            // Batches of this operation are also fused.
            let after = AfterProjection::Activation(Activation::Silu, 33);
            let one_row = NormGemvCase::one_row(NormForm::Rms, n_embd, dtype, after);
            cases.push(Case::NormGemv(NormGemvCase { m: 3, ..one_row }));
            cases
        }
        Op::Gemm => vec![
            Case::Gemm(gelu(plain(33, 130, 72))),
            Case::Gemm(residual(plain(5, 75, 20))),
            Case::Gemm(plain(65, 63, 520)),
        ],
        Op::AttentionPrefill => {
            vec![
                Case::AttentionPrefill(attention(17, 15)),
                Case::AttentionPrefill(attention(9, 63)),
                Case::AttentionPacked(attention(21, 40)),
            ]
        }
        Op::AttentionDecode => vec![
            Case::AttentionDecode(attention(1, 16)),
            Case::AttentionDecode(attention(1, 299)),
            Case::AttentionDecode(attention(3, 39)),
        ],
        Op::Score => [(3, 8193, ScoreInput::Random), (9, 257, ScoreInput::Masked)]
            .map(|(n_rows, n, input)| Case::Score(ScoreCase { n_rows, n, input }))
            .to_vec(),
    };
    match op {
        Op::Gemv => cases.extend(forms(1, true).chain(forms(3, true)).map(Case::Gemv)),
        Op::Gemm => cases.extend(forms(33, false).map(Case::Gemm)),
        _ => {}
    }
    cases
}

/// Checks `candidate` with its cases. `others` contains the implementations of the other
/// operations. Returns the reason if the candidate must not run: a wrong element, a write
/// outside its output, or a shader that the driver refuses.
#[must_use]
pub fn check(gpu: &Gpu, candidate: &'static Candidate, others: &Choices, shapes: &Shapes) -> Option<Dropped> {
    let mut choices = *others;
    choices.set(candidate);
    cases(candidate.op, shapes).iter().find_map(|case| {
        let reason = match case.check(gpu, &choices) {
            Ok(outcome) if outcome.passed() => return None,
            Ok(outcome) => format!("{case}: {}", outcome.fault()),
            Err(error) => format!("{case}: {error}"),
        };
        Some(Dropped { candidate, reason })
    })
}
