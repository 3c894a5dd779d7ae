//! The cases for kernel measurements: shapes of published models, and free shapes.

use std::fmt;

use super::Attends;
use crate::conformance::cases::{
    AfterProjection, ArgmaxCase, ArgmaxInput, AttentionCase, Case, EmbeddingCase, GatedCase, KvAppendCase,
    KvShape, MatmulCase, NormCase, NormGemvCase, QkNormCase, ReduceCase, SampleCase, SampleInput, ScoreCase,
    ScoreInput,
};
use crate::error::{Error, Result};
use crate::kernels::{Activation, BATCH_MAX, Matrix, NormForm, attention_decode, sample};
use crate::model::random::Shape;
use crate::tensor::{DType, pad_row};

/// The four sizes of GPT-2: 124M, 355M, 774M, 1.5B.
pub const MODELS: [&str; 4] = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"];

/// Vocabulary of every GPT-2 size.
const VOCAB_SIZE: usize = 50257;

/// Maximum rows of a kernel that has one workgroup per row along one dispatch dimension.
const WORKGROUPS_MAX: usize = 65_535;

/// Operations, each with the format of its free shapes.
pub const OPS: [(&str, &str); 16] = [
    ("gemv", "NxK, or MxNxK with a batch of M rows"),
    ("norm_gemv", "NxK"),
    ("rms_gemv", "NxK, or MxNxK with a batch of M rows"),
    ("gemm", "MxNxK, or NxK with 128 rows"),
    ("gated", "ROWSxN"),
    ("layer_norm", "ROWSxN"),
    ("rms_norm", "ROWSxN"),
    ("qk_norm", "ROWSxHEADSxHEAD_DIM, of which half the heads are of k"),
    ("embedding", "TOKENSxN_EMBD"),
    ("argmax", "N"),
    ("sample", "N"),
    ("score", "ROWSxN"),
    ("kv_append", "ROWSxHEADSxHEAD_DIM"),
    ("attention_prefill", "ROWSxHEADSxHEAD_DIM"),
    ("attention_decode", "KV_LENxHEADSxHEAD_DIM"),
    ("attention_reduce", "KV_LENxHEADSxHEAD_DIM"),
];

/// A case to measure. Its sizes come from [`Subject::free`] or [`Subject::of_model`], which
/// keep the contract of kernels that run unchecked.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    model: &'static str,
    pub(super) case: Case,
}

impl Subject {
    /// Returns a subject of `op`, one of [`OPS`], with sizes in the order that [`OPS`] gives.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown operation, a wrong number of sizes, a size of 0, a
    /// size beyond the benchmark's maximum, and as [`Attends`] explains.
    pub fn free(
        op: &str,
        shape: &[usize],
        attends: Attends,
        dtype: DType,
        max_binding_bytes: u64,
    ) -> Result<Self> {
        let case = attends.apply(free_case(op, shape, dtype, max_binding_bytes)?)?;
        Ok(Subject { model: "", case })
    }

    /// Returns the subjects of a model in [`MODELS`], with `dtype` as the type of weights
    /// and KV cache, or `None` for any other name.
    #[must_use]
    pub fn of_model(model: &str, dtype: DType, max_binding_bytes: u64) -> Option<Vec<Self>> {
        let model = MODELS.into_iter().find(|name| *name == model)?;
        let cases = model_cases(model, dtype, max_binding_bytes)?;
        Some(cases.into_iter().map(|case| Subject { model, case }).collect())
    }

    /// Returns the name of the model; empty for a free shape.
    #[must_use]
    pub fn model(&self) -> &str {
        self.model
    }
}

impl fmt::Display for Subject {
    /// Writes operation, shape, types and flags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.case.fmt(f)
    }
}

/// Returns the cases of a model in [`MODELS`], or `None` for any other name.
fn model_cases(model: &str, dtype: DType, max_binding_bytes: u64) -> Option<Vec<Case>> {
    let Shape { n_embd, n_head, vocab_size, .. } = Shape::named(model)?;
    let mut all = gpt2_shapes(n_embd, n_head, vocab_size);
    all.iter_mut().for_each(|case| adapt(case, dtype, max_binding_bytes));
    Some(all)
}

/// Returns each kernel's cases at the shapes of a GPT-2 (124M: 768 features, 12 heads,
/// 50257 tokens): a prefill of 128 tokens and a decode step at position 1000.
fn gpt2_shapes(n_embd: usize, n_head: usize, vocab_size: usize) -> Vec<Case> {
    let (m, dtype) = (128, DType::F16);
    let plain = |n, k| MatmulCase { bias: true, ..MatmulCase::plain(1, n, k, dtype) };
    let projections = [
        plain(3 * n_embd, n_embd),
        MatmulCase { accumulate: true, ..plain(n_embd, n_embd) },
        MatmulCase { activation: Activation::GeluTanh, ..plain(4 * n_embd, n_embd) },
        MatmulCase { accumulate: true, ..plain(n_embd, 4 * n_embd) },
    ];
    let mut all: Vec<Case> = projections.iter().map(|case| Case::Gemv(case.clone())).collect();
    all.push(Case::Gemv(MatmulCase::plain(1, vocab_size, n_embd, dtype)));
    all.extend(projections.into_iter().map(|case| Case::Gemm(MatmulCase { m, ..case })));
    let kv = KvShape { n_head, n_kv_head: n_head, head_dim: n_embd / n_head, dtype, n_slabs: 1 };
    for after in [AfterProjection::Cache(kv), AfterProjection::Activation(Activation::GeluTanh, 4 * n_embd)] {
        all.push(Case::NormGemv(NormGemvCase::one_row(NormForm::Layer, n_embd, dtype, after)));
    }
    for (n_rows, position) in [(1, 1000), (m, 0)] {
        all.push(Case::Norm(NormCase::rows(NormForm::Layer, n_rows, n_embd)));
        let usual = EmbeddingCase::usual(n_rows, vocab_size, n_embd, dtype);
        all.push(Case::Embedding(EmbeddingCase { position, batch: n_rows == 1, ..usual }));
        all.push(Case::KvAppend(KvAppendCase { kv, position, n_rows, batch: n_rows == 1, planted: None }));
    }
    all.push(Case::AttentionPrefill(AttentionCase::plain(kv, 0, m)));
    all.push(Case::AttentionDecode(AttentionCase::plain(kv, 1000, 1)));
    let (head_dim, split_keys) = (kv.head_dim, 256);
    let (max_splits, kv_len, window) = (4, 1001, None);
    let reduce = ReduceCase { n_head, head_dim, max_splits, split_keys, kv_len, window };
    all.push(Case::AttentionReduce(reduce));
    all.push(Case::Argmax(ArgmaxCase { n: vocab_size, input: ArgmaxInput::Random }));
    all.push(Case::Score(ScoreCase { n_rows: 32, n: vocab_size, input: ScoreInput::Random }));
    for (temperature, top_k, top_p) in [(0.0, 0, 1.0), (0.8, 0, 1.0), (0.8, 40, 0.95), (0.8, 0, 0.95)] {
        let (n, input, min_p) = (vocab_size, SampleInput::Random, 0.0);
        all.push(Case::Sample(SampleCase { n, input, temperature, top_k, top_p, min_p }));
    }
    all
}

/// Maximum elements of a free shape's tensor: 1 GiB in f32. The reference allocates a few
/// such tensors.
pub(super) const ELEMS_MAX: usize = 1 << 28;

/// Returns whether every tensor of a free shape has at most [`ELEMS_MAX`] elements.
fn fits(op: &str, shape: &[usize]) -> bool {
    let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let fits = |sizes: &[usize]| product(sizes).is_some_and(|n| n <= ELEMS_MAX);
    match (op, shape) {
        ("gemm", &[m, n, k]) => [[m, n], [m, k], [n, k]].iter().all(|tensor| fits(tensor)),
        _ => fits(shape),
    }
}

/// Returns the case of [`Subject::free`].
fn free_case(op: &str, shape: &[usize], dtype: DType, max_binding_bytes: u64) -> Result<Case> {
    let text = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let Some((_, expected)) = OPS.iter().find(|(name, _)| *name == op) else {
        let names: Vec<_> = OPS.iter().map(|(name, _)| *name).collect();
        return Err(Error::input(format!("operation {op:?}: expected one of {}", names.join(", "))));
    };
    if shape.contains(&0) || !fits(op, shape) {
        return Err(Error::input(format!(
            "shape {text}: sizes must be above 0, and no tensor may have more than {ELEMS_MAX} elements"
        )));
    }
    let cache = |n_head, head_dim| -> Result<KvShape> {
        if head_dim > attention_decode::HEAD_DIM_MAX {
            let most = attention_decode::HEAD_DIM_MAX;
            return Err(Error::input(format!("shape {text}: a head has at most {most} elements")));
        }
        Ok(KvShape { n_head, n_kv_head: n_head, head_dim, dtype, n_slabs: 1 })
    };
    let mut case = match (op, shape) {
        ("gemv", &[n, k]) => Case::Gemv(MatmulCase::plain(1, n, k, dtype)),
        ("gemv", &[m, n, k]) if m <= BATCH_MAX => Case::Gemv(MatmulCase::plain(m, n, k, dtype)),
        ("norm_gemv", &[n, n_embd]) => {
            let after = AfterProjection::Activation(Activation::None, n);
            Case::NormGemv(NormGemvCase::one_row(NormForm::Layer, n_embd, dtype, after))
        }
        ("rms_gemv", &[n, n_embd]) => {
            let after = AfterProjection::Activation(Activation::None, n);
            Case::NormGemv(NormGemvCase::one_row(NormForm::Rms, n_embd, dtype, after))
        }
        ("rms_gemv", &[m, n, n_embd]) if m <= BATCH_MAX => {
            let after = AfterProjection::Activation(Activation::None, n);
            let one_row = NormGemvCase::one_row(NormForm::Rms, n_embd, dtype, after);
            Case::NormGemv(NormGemvCase { m, ..one_row })
        }
        ("gemm", &[n, k]) => Case::Gemm(MatmulCase::plain(128, n, k, dtype)),
        ("gemm", &[m, n, k]) => Case::Gemm(MatmulCase::plain(m, n, k, dtype)),
        ("gated", &[n_rows, n]) => Case::Gated(GatedCase { n_rows, n, activation: Activation::Silu }),
        ("layer_norm", &[n_rows, n]) => Case::Norm(NormCase::rows(NormForm::Layer, n_rows, n)),
        ("rms_norm", &[n_rows, n]) => Case::Norm(NormCase::rows(NormForm::Rms, n_rows, n)),
        ("qk_norm", &[n_rows, n_heads, head_dim]) => {
            Case::QkNorm(QkNormCase::usual(n_rows, n_heads.div_ceil(2), n_heads / 2, head_dim))
        }
        ("embedding", &[n_tokens, n_embd]) => {
            let vocab_size = VOCAB_SIZE.min(ELEMS_MAX / n_embd);
            Case::Embedding(EmbeddingCase::usual(n_tokens, vocab_size, n_embd, dtype))
        }
        ("argmax", &[n]) => Case::Argmax(ArgmaxCase { n, input: ArgmaxInput::Random }),
        ("sample", &[n]) if n <= sample::N_MAX => Case::Sample(SampleCase::usual(n)),
        ("score", &[n_rows, n]) if n_rows <= WORKGROUPS_MAX => {
            Case::Score(ScoreCase { n_rows, n, input: ScoreInput::Random })
        }
        ("kv_append", &[n_rows, n_head, head_dim]) => {
            let kv = cache(n_head, head_dim)?;
            Case::KvAppend(KvAppendCase { kv, position: 0, n_rows, batch: false, planted: None })
        }
        ("attention_prefill", &[rows, n_head, head_dim]) => {
            Case::AttentionPrefill(AttentionCase::plain(cache(n_head, head_dim)?, 0, rows))
        }
        ("attention_decode", &[kv_len, n_head, head_dim]) => {
            Case::AttentionDecode(AttentionCase::plain(cache(n_head, head_dim)?, kv_len - 1, 1))
        }
        ("attention_reduce", &[kv_len, n_head, head_dim]) => {
            let head_dim = pad_row(cache(n_head, head_dim)?.head_dim);
            let split_keys = 256;
            let max_splits = kv_len.div_ceil(split_keys);
            Case::AttentionReduce(ReduceCase {
                n_head,
                head_dim,
                max_splits,
                split_keys,
                kv_len,
                window: None,
            })
        }
        _ => return Err(Error::input(format!("shape {text}: {op} takes {expected}"))),
    };
    adapt(&mut case, dtype, max_binding_bytes);
    Ok(case)
}

/// Sets the data type, and splits matrices into pieces that fit a binding.
fn adapt(case: &mut Case, dtype: DType, max_binding_bytes: u64) {
    let rows = |n_columns| Matrix::rows_per_piece(pad_row(n_columns), dtype, max_binding_bytes);
    match case {
        Case::Gemv(case) | Case::Gemm(case) => {
            case.dtype = dtype;
            case.piece_rows = rows(case.k.padded_len()).min(case.n.padded_len());
        }
        Case::Embedding(case) => {
            case.dtype = dtype;
            case.piece_rows = rows(case.n_embd).min(pad_row(case.vocab_size));
        }
        Case::KvAppend(KvAppendCase { kv, .. })
        | Case::AttentionPrefill(AttentionCase { kv, .. })
        | Case::AttentionPacked(AttentionCase { kv, .. })
        | Case::AttentionDecode(AttentionCase { kv, .. }) => kv.dtype = dtype,
        Case::NormGemv(case) => {
            case.dtype = dtype;
            if let AfterProjection::Cache(kv) = &mut case.after {
                kv.dtype = dtype;
            }
        }
        Case::Gated(_)
        | Case::Norm(_)
        | Case::QkNorm(_)
        | Case::Argmax(_)
        | Case::AttentionReduce(_)
        | Case::Sample(_)
        | Case::Score(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_accepts_a_free_shape() {
        for (op, _) in OPS {
            let tried: Vec<_> = [&[40][..], &[40, 24], &[40, 3, 8]]
                .into_iter()
                .filter_map(|shape| free_case(op, shape, DType::F32, 1 << 20).ok())
                .collect();
            assert_eq!(tried.len(), if op == "gemm" { 2 } else { 1 }, "{op}");
            assert!(tried[0].to_string().starts_with(&format!("{op} ")), "{}", tried[0]);
            assert!(tried[0].cost().bytes > 0 || op == "attention_reduce");
        }
    }

    #[test]
    fn wrong_shapes_are_explained() {
        let error = |op, shape: &[usize]| free_case(op, shape, DType::F16, 1 << 20).unwrap_err().to_string();
        assert!(error("gemv", &[1, 2, 3, 4]).contains("shape 1x2x3x4: gemv takes NxK"));
        assert!(error("conv", &[1]).contains("operation \"conv\": expected one of gemv, norm_gemv"));
        assert!(error("gemv", &[0, 8]).contains("above 0"));
        assert!(error("gemv", &[usize::MAX, 8]).contains("no tensor may have more"));
        assert!(error("gemm", &[8, 1 << 20, 1 << 10]).contains("no tensor may have more"));
        assert!(error("attention_decode", &[8, 2, 1 << 20]).contains("a head has at most"));
        // Each of the three tensors has 2^22 elements; the product of the sizes is 2^33.
        assert!(free_case("gemm", &[2048, 2048, 2048], DType::F16, 1 << 30).is_ok());
    }

    #[test]
    fn cases_of_models_fit_the_binding_and_have_the_dtype() {
        assert!(Subject::of_model("gpt3", DType::F16, 1 << 27).is_none());
        for model in MODELS {
            let Shape { n_embd, .. } = Shape::named(model).unwrap();
            let cases = model_cases(model, DType::F32, 1 << 27).unwrap();
            for (op, _) in OPS {
                let name = format!("{op} ");
                let found = cases.iter().any(|case| case.to_string().starts_with(&name));
                // Operations that GPT-2 lacks have only free shapes.
                assert_eq!(
                    found,
                    !["rms_norm", "rms_gemv", "qk_norm", "gated"].contains(&op),
                    "{model}: {op}"
                );
            }
            for case in cases {
                if let Case::Gemv(case) | Case::Gemm(case) = case {
                    assert_eq!(case.dtype, DType::F32);
                    let bytes = case.piece_rows * case.k.padded_len() * 4;
                    assert!(bytes <= 1 << 27 && case.k.len() % n_embd == 0, "{case}");
                }
            }
        }
    }
}
