//! The four protocols, and their requirements for an engine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PerplexityOptions;
use wgpt::{Engine, Error, Result};

/// How a text is split into windows and which tokens are scored. Figures of different
/// protocols are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Hugging Face's "Perplexity of fixed-length models". A document is a stream without
    /// a begin-of-text token. A window of the context's length moves by the stride.
    /// Tokens that overlap the window before are context, and every token except the
    /// document's first is scored once. With stride = context, the first token of each
    /// window is context.
    #[default]
    Hf,
    /// `llama-perplexity`. A document is split into chunks that do not overlap. If the
    /// model uses the begin-of-text token, it replaces the first token of each chunk. The
    /// second half of a chunk is scored: 255 tokens of 512. Tokens after the last whole
    /// chunk are dropped.
    Llama,
    /// Rolling log-likelihood of lm-evaluation-harness. The begin- or end-of-text token
    /// precedes the document. Windows of the context's length overlap by only one token,
    /// and every token of a document is scored.
    LmEval,
    /// Each document separately, starting with the begin-of-text token and cut off at the
    /// end of the context.
    Segments,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Protocol; 4] = [Protocol::Hf, Protocol::Llama, Protocol::LmEval, Protocol::Segments];

    /// Returns the name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Hf => "hf",
            Protocol::Llama => "llama",
            Protocol::LmEval => "lm-eval",
            Protocol::Segments => "segments",
        }
    }

    /// Returns whether the protocol treats the text as one stream of tokens. Several
    /// documents are then joined with [`super::join`].
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

/// Whether protocol llama replaces each chunk's first token with the begin-of-text token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BosChoice {
    /// Replace it if the tokenizer prepends the begin-of-text token to every text.
    /// Llama's tokenizer does, GPT-2's does not.
    #[default]
    Auto,
    /// Always replace it.
    Always,
    /// Never replace it.
    Never,
}

/// Use of the begin-of-text token in an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BosPolicy {
    /// The token is not used.
    None,
    /// The token precedes the stream and replaces each chunk's first token.
    Substituted,
    /// The token precedes each document and is not scored.
    Prefixed,
}

impl BosPolicy {
    /// Returns a description for reports.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            BosPolicy::None => "none",
            BosPolicy::Substituted => "in place of each chunk's first token",
            BosPolicy::Prefixed => "before each document",
        }
    }
}

/// Default chunk length of `llama-perplexity`, in tokens.
const LLAMA_CONTEXT: usize = 512;

/// A protocol and its sizes, which decide how documents become windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub protocol: Protocol,
    /// Window length in tokens.
    pub context: usize,
    /// Tokens from the first scored token of one window to the first scored token of the
    /// next.
    pub stride: usize,
    /// Begin-of-text token, if the protocol uses one.
    pub bos: Option<u32>,
}

impl Plan {
    /// # Errors
    /// [`Error::Input`] for a context or a stride that does not fit the model, and if the
    /// protocol needs a begin-of-text token that the model does not name.
    pub fn new(engine: &Engine, options: &PerplexityOptions) -> Result<Self> {
        let protocol = options.protocol;
        let n_ctx = engine.n_ctx();
        let default = if protocol == Protocol::Llama { n_ctx.min(LLAMA_CONTEXT) } else { n_ctx };
        let context = options.context.unwrap_or(default);
        // A shorter window would leave nothing to score.
        let least = if protocol == Protocol::Llama { 3 } else { 2 };
        if context < least || context > n_ctx {
            return Err(Error::input(format!(
                "a window of {context} tokens: protocol {protocol} takes {least} to {n_ctx}, the length of \
                 the context"
            )));
        }
        let bos = match protocol {
            Protocol::Hf => None,
            Protocol::Llama => llama_bos(engine, options.bos)?,
            Protocol::LmEval | Protocol::Segments => Some(named_bos(engine, protocol)?),
        };
        Ok(Plan { protocol, context, stride: stride(options, context)?, bos })
    }

    /// Returns how the begin-of-text token is used.
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
        return Err(Error::input(format!(
            "stride {stride}: expected 1 to {context}, the length of the context"
        )));
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
            "protocol {protocol} needs a begin-of-text token, but neither config.json nor \
             generation_config.json names one (bos_token_id or eos_token_id): use protocol hf"
        ))
    })
}
