//! The figures as text and as JSON.

use serde::Serialize;
use wgpt_eval::perplexity::{BosPolicy, PerplexityReport, Protocol};

use super::input::FileInfo;
use super::tokens::TokenRow;
use crate::output::{labelled, plural};
use crate::run_info::RunInfo;

/// The JSON object.
#[derive(Serialize)]
pub struct Report<'a> {
    #[serde(flatten)]
    pub result: PerplexityReport,
    /// How the files were split: "files", or the argument.
    pub documents: String,
    pub files: &'a [FileInfo],
    pub data_sha256: &'a str,
    /// Only for a JSON or HTML report; otherwise `None`.
    pub model_sha256: Option<String>,
    /// Time of the evaluation in seconds, without loading.
    pub seconds: f64,
    #[serde(flatten)]
    pub run: RunInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<TokenRow>>,
}

/// Formats a figure, with its standard error if there is one.
pub fn with_error(value: Option<f64>, stderr: Option<f64>, digits: usize) -> String {
    match (value, stderr) {
        // A token of probability 0 makes the mean infinite.
        (None, _) => "infinite".to_owned(),
        (Some(value), None) => format!("{value:.digits$}"),
        (Some(value), Some(stderr)) => format!("{value:.digits$} +/- {stderr:.digits$}"),
    }
}

/// Describes the window and how it moves.
pub fn windows(result: &PerplexityReport) -> String {
    let moves = match result.protocol {
        Protocol::Hf => format!("stride {}", result.stride),
        Protocol::Llama => format!("stride {}, second half scored", result.stride),
        Protocol::LmEval => format!("stride {}, one token of overlap", result.stride),
        Protocol::Segments => "longer documents cut off".to_owned(),
    };
    format!("{}, {moves}", plural(result.context, "token"))
}

/// Describes the use of the begin-of-text token.
pub fn bos(result: &PerplexityReport) -> String {
    match (result.bos, result.bos_token) {
        (BosPolicy::None, _) | (_, None) => "none".to_owned(),
        (policy, Some(token)) => format!("token {token} {}", policy.description()),
    }
}

/// Describes which part of the input was scored.
pub fn scored(result: &PerplexityReport) -> String {
    let PerplexityReport { tokens_scored, n_tokens, windows_scored, n_documents, .. } = result;
    let limited = match (result.limit, result.protocol.is_stream()) {
        (None, _) => String::new(),
        (Some(n), true) => format!(", --limit {}", plural(n, "window")),
        (Some(n), false) => format!(", --limit {}", plural(n, "document")),
    };
    format!(
        "{tokens_scored} of {n_tokens} in {} and {}{}",
        plural(*n_documents, "document"),
        plural(*windows_scored as usize, "window"),
        limited
    )
}

/// Formats the figures, one per line.
pub fn text(result: &PerplexityReport) -> String {
    let per = |bits: Option<f64>, n: Option<u64>, what: &str| {
        bits.zip(n).map(|(bits, n)| format!("{bits:.6} ({n} {what})"))
    };
    let mut rows = vec![
        ("perplexity", with_error(result.perplexity, result.perplexity_stderr, 6)),
        ("mean NLL", with_error(result.nll, result.nll_stderr, 6) + " nats per token"),
    ];
    let bits = [
        ("bits per byte", per(result.bits_per_byte, result.bytes_scored, "bytes")),
        ("bits per word", per(result.bits_per_word, result.words_scored, "words")),
    ];
    rows.extend(bits.into_iter().filter_map(|(label, value)| Some((label, value?))));
    if result.protocol == Protocol::LmEval {
        let figures = [
            ("word_perplexity", result.word_perplexity),
            ("byte_perplexity", result.byte_perplexity),
            ("bits_per_byte", result.bits_per_byte),
        ];
        rows.extend(figures.map(|(label, value)| (label, with_error(value, None, 6))));
    }
    rows.extend([
        ("tokens scored", scored(result)),
        ("protocol", result.protocol.to_string()),
        ("context", windows(result)),
        ("begin of text", bos(result)),
    ]);
    let mut text = labelled(&rows, 0);
    if result.protocol == Protocol::Llama {
        // The last line of llama-perplexity.
        let figures =
            (result.perplexity.unwrap_or(f64::INFINITY), result.perplexity_stderr.unwrap_or(f64::NAN));
        text += &format!("Final estimate: PPL = {:.4} +/- {:.5}\n", figures.0, figures.1);
    }
    text
}
