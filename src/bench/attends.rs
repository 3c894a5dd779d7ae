//! Attention options of a free shape. They follow its sizes: `9x64:kv=3:window=512`.

use std::str::FromStr;

use super::shapes::ELEMS_MAX;
use crate::conformance::cases::{AttentionCase, Case, KvAppendCase, ReduceCase};
use crate::error::{Error, Result};

/// Attention options that follow a shape's sizes, each preceded by a colon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attends {
    /// `kv=N`: key/value heads; must divide the number of heads.
    pub n_kv_head: Option<usize>,
    /// `depth=N`: positions before the first row of a prefill.
    pub depth: Option<usize>,
    /// `window=N`: number of positions that a row attends to.
    pub window: Option<usize>,
    /// `cap=X`: soft bound of the attention scores.
    pub soft_cap: Option<f32>,
}

/// Maximum of `kv`, `depth` and `window`.
const POSITIONS_MAX: usize = 1 << 20;

impl FromStr for Attends {
    type Err = Error;

    /// Parses options such as `kv=3:window=512`. An empty text means no options.
    fn from_str(text: &str) -> Result<Self> {
        let mut attends = Attends::default();
        for option in text.split(':').filter(|option| !option.is_empty()) {
            let wrong = || {
                Error::input(format!(
                    "option {option:?} of a shape: expected kv=N, depth=N, window=N (1 to {POSITIONS_MAX}) or \
                     cap=X (above 0)"
                ))
            };
            let (name, value) = option.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse().ok().filter(|n| (1..=POSITIONS_MAX).contains(n)).ok_or_else(wrong);
            match name {
                "kv" => attends.n_kv_head = Some(number()?),
                "depth" => attends.depth = Some(number()?),
                "window" => attends.window = Some(number()?),
                "cap" => {
                    let cap = value.parse().ok().filter(|cap: &f32| cap.is_finite() && *cap > 0.0);
                    attends.soft_cap = Some(cap.ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(attends)
    }
}

impl Attends {
    /// Returns `case` with these options applied.
    ///
    /// # Errors
    /// [`Error::Input`] for an option that the case's operation does not use, for a
    /// number of key/value heads that does not divide the heads, and for keys of more
    /// than `ELEMS_MAX` elements.
    pub(super) fn apply(self, mut case: Case) -> Result<Case> {
        let name = case.to_string();
        let unused = |what: &str| Err(Error::input(format!("{name}: the operation takes no {what}")));
        let Attends { n_kv_head, depth, window, soft_cap } = self;
        match &mut case {
            Case::AttentionPrefill(AttentionCase { position, n_rows, kv, .. }) => {
                *position += depth.unwrap_or(0);
                if (*position + *n_rows).saturating_mul(kv.n_head * kv.head_dim) > ELEMS_MAX {
                    return Err(Error::input(format!(
                        "{name}: keys may have no more than {ELEMS_MAX} elements"
                    )));
                }
            }
            _ if depth.is_some() => return unused("depth"),
            _ => {}
        }
        match &mut case {
            Case::AttentionPrefill(case) | Case::AttentionDecode(case) => {
                (case.window, case.soft_cap) = (window, soft_cap);
            }
            Case::AttentionReduce(ReduceCase { window: seen, .. }) if soft_cap.is_none() => *seen = window,
            _ if window.is_some() => return unused("window"),
            _ if soft_cap.is_some() => return unused("cap"),
            _ => {}
        }
        let Some(n) = n_kv_head else { return Ok(case) };
        match &mut case {
            Case::KvAppend(KvAppendCase { kv, .. })
            | Case::AttentionPrefill(AttentionCase { kv, .. })
            | Case::AttentionDecode(AttentionCase { kv, .. }) => {
                if !kv.n_head.is_multiple_of(n) {
                    let n_head = kv.n_head;
                    return Err(Error::input(format!("{name}: {n_head} heads cannot share {n} of k and v")));
                }
                kv.n_kv_head = n;
            }
            _ => return unused("heads of k and v"),
        }
        Ok(case)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subject;
    use super::*;
    use crate::tensor::DType;

    fn case(op: &str, sizes: &[usize], options: &str) -> Result<String> {
        let subject = Subject::free(op, sizes, options.parse()?, DType::F16, 1 << 27)?;
        Ok(subject.to_string())
    }

    #[test]
    fn options_change_the_cases_of_attention() {
        let decode = case("attention_decode", &[1000, 9, 64], "kv=3:window=512:cap=50").unwrap();
        assert_eq!(decode, "attention_decode 9/3x64 f16 slabs=1 rows=1 at 999 window=512 cap=50");
        let prefill = case("attention_prefill", &[32, 9, 64], "depth=8000:kv=1").unwrap();
        assert_eq!(prefill, "attention_prefill 9/1x64 f16 slabs=1 rows=32 at 8000");
        let append = case("kv_append", &[32, 9, 64], "kv=3").unwrap();
        assert_eq!(append, "kv_append 9/3x64 f16 slabs=1 rows=32 at 0");
        let reduce = case("attention_reduce", &[1000, 9, 64], "window=512").unwrap();
        assert!(reduce.ends_with("kv_len=1000 window=512"), "{reduce}");
        assert_eq!(case("gemv", &[8, 8], "").unwrap(), "gemv m=1 n=8 k=8 f16");
    }

    #[test]
    fn meaningless_options_are_errors() {
        let error = |op, sizes: &[usize], options| case(op, sizes, options).unwrap_err().to_string();
        for (op, sizes, options, what) in [
            ("gemv", &[8, 8][..], "kv=3", "takes no heads of k and v"),
            ("argmax", &[8], "window=3", "takes no window"),
            ("kv_append", &[8, 2, 8], "cap=3", "takes no cap"),
            ("attention_reduce", &[8, 2, 8], "cap=3", "takes no cap"),
            ("attention_decode", &[8, 2, 8], "depth=3", "takes no depth"),
            ("attention_prefill", &[8, 9, 64], "depth=1048576", "no more than"),
            ("attention_decode", &[8, 9, 8], "kv=2", "9 heads cannot share 2"),
            ("attention_decode", &[8, 9, 8], "kv=0", "expected kv=N"),
            ("attention_decode", &[8, 9, 8], "cap=-1", "cap=X (above 0)"),
            ("attention_decode", &[8, 9, 8], "heads", "expected kv=N"),
            ("attention_decode", &[8, 9, 8], "windows=3", "option \"windows=3\" of a shape"),
        ] {
            assert!(error(op, sizes, options).contains(what), "{}", error(op, sizes, options));
        }
    }
}
