//! The numbers of the running continuation, or of the last one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wgpt::FinishReason;

/// The displayed rate covers the tokens of this time.
const RATE_OVER: Duration = Duration::from_secs(2);

/// The running continuation, or the last one.
#[derive(Debug, Default)]
pub struct Run {
    id: u64,
    running: bool,
    max_tokens: usize,
    prompt_tokens: usize,
    dropped: usize,
    tokens: usize,
    recent: VecDeque<Instant>,
    /// The rate of the continuation after its end.
    rate: Option<f64>,
    /// Whether the model ended the continuation.
    eos: bool,
}

impl Run {
    /// Starts a continuation. Returns its number.
    pub fn begin(&mut self, max_tokens: usize) -> u64 {
        *self = Run { id: self.id + 1, running: true, max_tokens, ..Run::default() };
        self.id
    }

    /// Whether the continuation is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether its prompt is being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.running && self.tokens == 0
    }

    /// Number of tokens in its prompt.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Records the prompt's size and the number of tokens dropped from it.
    pub fn prompt(&mut self, id: u64, tokens: usize, dropped: usize) {
        if id == self.id {
            (self.prompt_tokens, self.dropped) = (tokens, dropped);
        }
    }

    /// Records a token. Returns whether it is the first one, or `None` if it belongs to an
    /// earlier continuation.
    pub fn piece(&mut self, id: u64, at: Instant) -> Option<bool> {
        if id != self.id {
            return None;
        }
        self.tokens += 1;
        self.recent.push_back(at);
        while self.recent.front().is_some_and(|&first| at.duration_since(first) > RATE_OVER) {
            self.recent.pop_front();
        }
        Some(self.tokens == 1)
    }

    /// Records the end of the continuation.
    pub fn ended(&mut self, id: u64, rate: f64, reason: FinishReason) {
        if id == self.id {
            self.running = false;
            self.eos = reason == FinishReason::Eos;
            self.rate = (rate.is_finite() && rate > 0.0).then_some(rate);
        }
    }

    /// Tokens per second: recently, or of the whole continuation once it has ended.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        if !self.running {
            return self.rate;
        }
        let (first, last) = (self.recent.front()?, self.recent.back()?);
        let seconds = last.duration_since(*first).as_secs_f64();
        (seconds > 0.0).then(|| (self.recent.len() - 1) as f64 / seconds)
    }

    /// The status in words; `None` before the first continuation.
    #[must_use]
    pub fn status(&self) -> Option<String> {
        if self.id == 0 {
            return None;
        }
        let left_out = match self.dropped {
            0 => String::new(),
            n => format!(" (the first {n} are left out: the context is full)"),
        };
        Some(match (self.running, self.tokens) {
            (true, 0) => format!("Reading {} tokens{left_out}", self.prompt_tokens),
            (true, n) => format!("Writing: {n} of {} tokens{left_out}", self.max_tokens),
            (false, 0) if self.eos => "The model would end the text here".into(),
            (false, n) => format!("Wrote {n} tokens behind a prompt of {}{left_out}", self.prompt_tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_belong_to_the_current_continuation() {
        let mut run = Run::default();
        assert_eq!(run.status(), None);
        let old = run.begin(10);
        let id = run.begin(20);
        let start = Instant::now();
        assert_eq!(run.piece(old, start), None);
        assert!(run.is_reading());
        for i in 0..=40 {
            assert_eq!(run.piece(id, start + Duration::from_millis(100 * i)), Some(i == 0));
        }
        assert!((run.rate().unwrap() - 10.0).abs() < 1e-6);
        run.ended(old, 99.0, FinishReason::Length);
        assert!(run.is_running());
        run.ended(id, 12.0, FinishReason::Length);
        assert_eq!((run.is_running(), run.rate()), (false, Some(12.0)));
    }
}
