//! The four protocols, and what one asks of an engine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PerplexityOptions;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// How a text is cut into windows and which tokens are scored. Figures of two
/// protocols cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Hugging Face's "Perplexity of fixed-length models": a document is a stream
    /// with nothing in front; a window of the context moves by the stride, what
    /// overlaps is context, and every token but the document's first is scored
    /// once. With stride = context the first token of each window is context.
    #[default]
    Hf,
    /// `llama-perplexity`: a document is cut into chunks that do not overlap, the
    /// begin-of-text token takes the place of each one's first where the model
    /// uses it, and the second half is scored: 255 tokens of 512. What remains
    /// behind the last whole chunk is dropped.
    Llama,
    /// The rolling log-likelihood of lm-evaluation-harness: the begin- or
    /// end-of-text token in front, windows of the context that do not overlap but
    /// for one token, every token of a document scored.
    LmEval,
    /// Each document by itself, from the begin-of-text token on, cut off where the
    /// context ends.
    Segments,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 4] = [Protocol::Hf, Protocol::Llama, Protocol::LmEval, Protocol::Segments];

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Hf => "hf",
            Protocol::Llama => "llama",
            Protocol::LmEval => "lm-eval",
            Protocol::Segments => "segments",
        }
    }

    /// Whether the text is one stream of tokens: several documents are then joined
    /// ([`super::join`]).
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(self, Protocol::Hf | Protocol::Llama)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == s).ok_or_else(|| {
            let names = Protocol::ALL.map(Protocol::name).join(", ");
            Error::input(format!("protocol {s:?}: expected one of {names}"))
        })
    }
}

/// Whether protocol llama puts the begin-of-text token in the place of each
/// chunk's first token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BosChoice {
    /// Where the tokenizer puts it in front of every text, as Llama's does and
    /// GPT-2's does not.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// What was done with the begin-of-text token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BosPolicy {
    /// The text stands alone.
    None,
    /// It stands in front of the stream and in the place of each chunk's first token.
    Substituted,
    /// It stands in front of each document and is not scored.
    Prefixed,
}

impl BosPolicy {
    /// In words.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            BosPolicy::None => "none",
            BosPolicy::Substituted => "in the place of each chunk's first token",
            BosPolicy::Prefixed => "in front of each document",
        }
    }
}

/// Tokens of a chunk that `llama-perplexity` takes by default.
const LLAMA_CONTEXT: usize = 512;

/// A protocol with its sizes: how documents become windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub protocol: Protocol,
    /// Tokens of a window.
    pub context: usize,
    /// Tokens from one window's first scored token to the next one's.
    pub stride: usize,
    /// The begin-of-text token, where the protocol uses one.
    pub bos: Option<u32>,
}

impl Plan {
    /// # Errors
    /// [`Error::Input`] for a context or a stride that does not fit the model, and where the protocol needs a begin-of-text token that the
    /// model does not name.
    pub fn new(engine: &Engine, options: &PerplexityOptions) -> Result<Self> {
        let protocol = options.protocol;
        let n_ctx = engine.n_ctx();
        let default = if protocol == Protocol::Llama { n_ctx.min(LLAMA_CONTEXT) } else { n_ctx };
        let context = options.context.unwrap_or(default);
        // Fewer leave nothing to score.
        let least = if protocol == Protocol::Llama { 3 } else { 2 };
        if context < least || context > n_ctx {
            return Err(Error::input(format!(
                "a window of {context} tokens: protocol {protocol} takes {least} to the context of {n_ctx}"
            )));
        }
        let bos = match protocol {
            Protocol::Hf => None,
            Protocol::Llama => llama_bos(engine, options.bos)?,
            Protocol::LmEval | Protocol::Segments => Some(named_bos(engine, protocol)?),
        };
        Ok(Plan { protocol, context, stride: stride(options, context)?, bos })
    }

    /// What is done with the begin-of-text token.
    pub fn bos_policy(&self) -> BosPolicy {
        match (self.bos, self.protocol) {
            (None, _) => BosPolicy::None,
            (Some(_), Protocol::Llama) => BosPolicy::Substituted,
            (Some(_), _) => BosPolicy::Prefixed,
        }
    }
}

fn stride(options: &PerplexityOptions, context: usize) -> Result<usize> {
    if options.protocol != Protocol::Hf {
        return Ok(context);
    }
    let stride = options.stride.unwrap_or((context / 2).max(1));
    if stride == 0 || stride > context {
        return Err(Error::input(format!("stride {stride}: expected 1 to the context of {context}")));
    }
    Ok(stride)
}

fn llama_bos(engine: &Engine, choice: BosChoice) -> Result<Option<u32>> {
    match choice {
        BosChoice::Never => Ok(None),
        BosChoice::Always => named_bos(engine, Protocol::Llama).map(Some),
        BosChoice::Auto if engine.files().has_tokenizer() => engine.tokenizer()?.leading_token(),
        BosChoice::Auto => Ok(None),
    }
}

fn named_bos(engine: &Engine, protocol: Protocol) -> Result<u32> {
    engine.files().bos_token_id().ok_or_else(|| {
        Error::input(format!(
            "protocol {protocol} begins with a begin-of-text token, and neither config.json nor \
             generation_config.json names one (bos_token_id or eos_token_id)"
        ))
    })
}
