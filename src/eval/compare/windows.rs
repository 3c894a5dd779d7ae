//! Windows of a text by the hf protocol.

/// Windows of a text: `(begin, end, first_scored)`, all in tokens of the text. Each
/// scores the tokens that no earlier window held, except a window's first, which has
/// no context.
pub(super) fn windows(n_tokens: usize, context: usize, stride: usize) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    let mut scored_to = 0;
    for begin in (0..n_tokens).step_by(stride) {
        let end = (begin + context).min(n_tokens);
        all.push((begin, end, scored_to.max(begin + 1)));
        scored_to = end;
        if end == n_tokens {
            break;
        }
    }
    all
}
