//! Division of documents into windows, by protocol.
//!
//! The protocols differ only in what precedes a window and which of its tokens are scored.
//! Windows are made one at a time, because a stride of 1 has one for every token. The
//! begin-of-text token runs once, and windows that begin with it fork that session.

use std::ops::Range;

use super::document::Document;
use super::protocol::{Plan, Protocol};

/// A part of a document that is evaluated at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Index of the document.
    pub document: usize,
    /// Begin-of-text token before `context`, if any.
    pub bos: Option<u32>,
    /// Tokens of the document that are only context; the range ends where `scored`
    /// begins.
    pub context: Range<usize>,
    /// Tokens of the document that are scored.
    pub scored: Range<usize>,
}

impl Window {
    /// Returns the number of tokens before the first scored one: at least one.
    pub fn n_context(&self) -> usize {
        usize::from(self.bos.is_some()) + self.context.len()
    }
}

/// Returns the windows of a document of `n_tokens` in text order. Each has at least one
/// scored token.
pub(super) fn windows(plan: &Plan, document: usize, n_tokens: usize) -> Box<dyn Iterator<Item = Window>> {
    let Plan { context, stride, bos, protocol } = *plan;
    let scored: Box<dyn Iterator<Item = (Range<usize>, Range<usize>)>> = match protocol {
        Protocol::Hf => Box::new(hf(n_tokens, context, stride)),
        Protocol::Llama => Box::new(llama(n_tokens, context, bos.is_some())),
        Protocol::LmEval => Box::new(rolling(n_tokens, context)),
        Protocol::Segments => Box::new(std::iter::once((0..0, 0..n_tokens.min(context - 1)))),
    };
    Box::new(scored.filter(|(_, scored)| !scored.is_empty()).map(move |(context, scored)| {
        // A rolling window has one token of context. After the first window, this is a
        // token of the document.
        let bos = bos.filter(|_| protocol != Protocol::LmEval || scored.start == 0);
        Window { document, bos, context, scored }
    }))
}

/// Returns the context and the scored range of each window. A window scores the tokens
/// that no earlier window contained. It never scores its own first token, which has no
/// context: with overlapping windows this affects only the first token of the text.
pub(crate) fn hf(
    n_tokens: usize,
    context: usize,
    stride: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let end = move |begin: usize| (begin + context).min(n_tokens);
    (0..n_tokens)
        .step_by(stride)
        // The window that reaches the end of the text is the last.
        .take_while(move |&begin| begin == 0 || end(begin - stride) < n_tokens)
        .map(move |begin| {
            let before = if begin == 0 { 0 } else { end(begin - stride) };
            let first = before.max(begin + 1).min(end(begin));
            (begin..first, first..end(begin))
        })
}

/// Returns the context and the scored range of each chunk. A begin-of-text token replaces
/// the first token of each chunk, and it also begins the stream. Position i of the stream
/// is then token i - 1 of the text.
fn llama(n_tokens: usize, context: usize, bos: bool) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let lead = usize::from(bos);
    let n_chunks = (n_tokens + lead) / context;
    // Of 512 rows of logits, llama-perplexity uses those at 256 to 510, which predict
    // tokens 257 to 511.
    let first = context / 2 + 1;
    (0..n_chunks).map(move |k| {
        let start = k * context;
        (start..start + first - lead, start + first - lead..start + context - lead)
    })
}

/// `get_rolling_token_windows` with `context_len` 1, then `make_disjoint_window`
/// (lm-evaluation-harness, `lm_eval/utils.py`). Each window has as many targets as the
/// context has positions. The last window has fewer, and preceding tokens fill it up as
/// context.
fn rolling(n_tokens: usize, context: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    (0..n_tokens).step_by(context).map(move |begin| {
        let end = (begin + context).min(n_tokens);
        // A window has the context's length if enough text precedes its end.
        let start = if begin == 0 { 0 } else { end - context - 1 };
        (start..begin, begin..end)
    })
}

/// Returns the windows of all documents. `limit` counts windows under a stream protocol,
/// documents otherwise.
pub(super) fn all<'d>(
    plan: &'d Plan,
    documents: &'d [Document],
    limit: Option<usize>,
) -> Box<dyn Iterator<Item = Window> + 'd> {
    let limit = limit.unwrap_or(usize::MAX);
    let of = |(i, document): (usize, &'d Document)| windows(plan, i, document.tokens.len());
    if plan.protocol.is_stream() {
        Box::new(documents.iter().enumerate().flat_map(of).take(limit))
    } else {
        Box::new(documents.iter().enumerate().take(limit).flat_map(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(protocol: Protocol, context: usize, stride: usize, bos: Option<u32>) -> Plan {
        Plan { protocol, context, stride, bos }
    }

    fn of(plan: &Plan, n_tokens: usize) -> Vec<Window> {
        windows(plan, 0, n_tokens).collect()
    }

    /// Returns the tokens that no window scores; asserts that no token is scored twice.
    fn left_out(windows: &[Window], n_tokens: usize) -> Vec<usize> {
        let mut times = vec![0; n_tokens];
        windows.iter().flat_map(|window| window.scored.clone()).for_each(|i| times[i] += 1);
        assert!(times.iter().all(|&times| times <= 1));
        (0..n_tokens).filter(|&i| times[i] == 0).collect()
    }

    #[test]
    fn hf_scores_every_token_but_the_first_once() {
        for (n, context, stride) in
            [(2, 512, 256), (512, 512, 512), (513, 512, 512), (1000, 64, 1), (777, 11, 4), (1030, 512, 512)]
        {
            let all = of(&plan(Protocol::Hf, context, stride, None), n);
            for window in &all {
                assert!(window.scored.end - window.context.start <= context && !window.context.is_empty());
                assert_eq!((window.context.end, window.bos), (window.scored.start, None));
            }
            let expected: Vec<usize> =
                if stride < context { vec![0] } else { (0..n).step_by(stride).collect() };
            assert_eq!(left_out(&all, n), expected, "{n} {context} {stride}");
        }
        assert_eq!(of(&plan(Protocol::Hf, 8, 4, None), 1), []);
    }

    #[test]
    fn llama_scores_the_second_half_of_whole_chunks() {
        let all = of(&plan(Protocol::Llama, 512, 512, None), 1535);
        let ranges: Vec<_> = all.iter().map(|w| (w.context.clone(), w.scored.clone())).collect();
        assert_eq!(ranges, [(0..257, 257..512), (512..769, 769..1024)]);
        assert!(all.iter().all(|window| window.scored.len() == 255 && window.n_context() == 257));
        // The begin-of-text token makes the stream one token longer, so the third chunk
        // is whole.
        let all = of(&plan(Protocol::Llama, 512, 512, Some(1)), 1535);
        assert_eq!((all.len(), all[0].bos, all[0].n_context()), (3, Some(1), 257));
        assert_eq!((all[0].context.clone(), all[0].scored.clone()), (0..256, 256..511));
        // Position 512 of the stream is token 511, which the begin-of-text token
        // replaces.
        assert_eq!((all[1].context.clone(), all[1].scored.clone()), (512..768, 768..1023));
        assert_eq!(all[2].scored, 1280..1535);
        let odd = of(&plan(Protocol::Llama, 7, 7, None), 7);
        assert_eq!((odd[0].context.clone(), odd[0].scored.clone()), (0..4, 4..7));
        assert_eq!(of(&plan(Protocol::Llama, 512, 512, None), 511), []);
    }

    /// The example from the tests of lm-evaluation-harness
    /// (`test_get_rolling_token_windows_v1`, followed by `make_disjoint_window`).
    #[test]
    fn rolling_windows_match_lm_eval() {
        let all = of(&plan(Protocol::LmEval, 10, 10, Some(99)), 34);
        let found: Vec<_> = all.iter().map(|w| (w.bos, w.context.clone(), w.scored.clone())).collect();
        assert_eq!(
            found,
            [(Some(99), 0..0, 0..10), (None, 9..10, 10..20), (None, 19..20, 20..30), (None, 23..30, 30..34)]
        );
        assert_eq!(left_out(&all, 34), [0; 0]);
        for n in [1, 9, 10, 11, 20] {
            let all = of(&plan(Protocol::LmEval, 10, 10, Some(99)), n);
            assert_eq!(left_out(&all, n), [0; 0]);
            assert!(all.iter().all(|w| w.n_context() >= 1 && w.n_context() + w.scored.len() <= 11));
        }
    }

    #[test]
    fn segments_end_at_the_context() {
        let of = |n| of(&plan(Protocol::Segments, 16, 16, Some(7)), n);
        let window = |scored| Window { document: 0, bos: Some(7), context: 0..0, scored };
        assert_eq!((of(5), of(15), of(99)), (vec![window(0..5)], vec![window(0..15)], vec![window(0..15)]));
        assert_eq!(of(0), []);
    }

    #[test]
    fn limits_count_windows_of_a_stream_or_documents() {
        let documents: Vec<_> =
            [100, 30].into_iter().map(|n| Document::from_tokens("", vec![0; n])).collect();
        let count = |protocol, bos, limit| {
            let plan = plan(protocol, 16, 16, bos);
            all(&plan, &documents, limit).map(|window| window.document).collect::<Vec<_>>()
        };
        assert_eq!(count(Protocol::Hf, None, Some(2)), [0, 0]);
        assert_eq!(count(Protocol::Llama, None, None), [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(count(Protocol::Segments, Some(1), Some(1)), [0]);
        assert_eq!(count(Protocol::LmEval, Some(1), Some(1)), [0; 7]);
        assert_eq!(count(Protocol::LmEval, Some(1), Some(9)).len(), 9);
    }
}
