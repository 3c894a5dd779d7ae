//! Cases of the operations that read rows of logits.

use wgpt::internals::conformance::cases::{
    ArgmaxCase, ArgmaxInput, Case, SampleCase, SampleInput, ScoreCase, ScoreInput,
};

/// Adds all of these cases.
pub(super) fn all(all: &mut Vec<Case>) {
    argmax(all);
    sample(all);
    score(all);
}

fn argmax(all: &mut Vec<Case>) {
    use ArgmaxInput::{Infinity, Nan, Negative, NegativeNan, NoneFinite, OneFinite, Random, Ties, Zeros};
    for n in [1, 255, 256, 257, 50_257] {
        for input in [Random, Negative, OneFinite, NoneFinite, Nan, NegativeNan, Infinity] {
            all.push(Case::Argmax(ArgmaxCase { n, input }));
        }
    }
    for n in [3, 300, 50_257] {
        for input in [Ties, Zeros] {
            all.push(Case::Argmax(ArgmaxCase { n, input }));
        }
    }
}

fn sample(all: &mut Vec<Case>) {
    // A workgroup has 256 threads and a chunk of 2048 logits.
    for n in [1, 2, 255, 256, 257, 2047, 2048, 2049, 5000, 50_257] {
        for input in [SampleInput::Random, SampleInput::Ties, SampleInput::Masked, SampleInput::Nan] {
            for (temperature, top_k, top_p, min_p) in [
                (0.0, 0, 1.0, 0.0),
                (1.5, 0, 1.0, 0.0),
                (0.7, 40, 1.0, 0.0),
                (1.0, 0, 0.9, 0.0),
                (2.0, 1000, 0.95, 0.05),
            ] {
                all.push(Case::Sample(SampleCase { n, input, temperature, top_k, top_p, min_p }));
            }
        }
    }
}

fn score(all: &mut Vec<Case>) {
    use ScoreInput::{
        Certain, Equal, Infinity, Large, Masked, Nan, NegativeNan, NoneFinite, OneFinite, Peak, Random,
    };
    let mut push = |n_rows, n, input| all.push(Case::Score(ScoreCase { n_rows, n, input }));
    // A chunk is 8192 logits; 1024 logits are one vec4 for each thread of a workgroup.
    for n in [1, 2, 7, 8, 9, 1023, 1025, 8191, 8192, 8193, 50_257, 131_072] {
        for input in [Random, Equal, Peak, Certain, Large, Masked, OneFinite] {
            push(3, n, input);
        }
    }
    for n in [1, 7, 1025, 50_257] {
        for input in [NoneFinite, Nan, NegativeNan, Infinity] {
            push(3, n, input);
        }
    }
    // Row counts around a workgroup of the merge.
    for n_rows in [1, 7, 8, 9, 65] {
        push(n_rows, 257, Random);
    }
}
