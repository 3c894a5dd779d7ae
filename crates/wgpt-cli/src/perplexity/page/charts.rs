//! The page's two charts, as SVG in the page's colours.

use maud::{Markup, html};
use wgpt_eval::perplexity::TokenRecord;

use crate::output::plural;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 52.0;

/// Maps a range of values to a range of pixels.
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// Returns round values, about `n` at most.
    fn ticks(&self, n: usize) -> Vec<f64> {
        let rough = (self.to - self.from) / n as f64;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|&s| s >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        (first..).map(|k| k as f64 * step).take_while(|&v| v <= self.to + step * 1e-6).collect()
    }
}

fn x_scale(from: f64, to: f64) -> Scale {
    Scale { from, to, start: LEFT, end: WIDTH - RIGHT }
}

fn y_scale(to: f64) -> Scale {
    Scale { from: 0.0, to, start: HEIGHT - BOTTOM, end: TOP }
}

/// Formats a value with no more digits than it needs.
fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn axes(x: &Scale, y: &Scale, x_label: &str, y_label: &str) -> Markup {
    let middle = f64::midpoint(x.start, x.end);
    html! {
        @for value in y.ticks(4) {
            line.grid x1=(x.start) x2=(x.end) y1=(y.at(value)) y2=(y.at(value)) {}
            text.tick x=(x.start - 6.0) y=(y.at(value) + 4.0) text-anchor="end" { (tick(value)) }
        }
        @for value in x.ticks(8) {
            line.axis x1=(x.at(value)) x2=(x.at(value)) y1=(y.start) y2=(y.start + 4.0) {}
            text.tick x=(x.at(value)) y=(y.start + 20.0) text-anchor="middle" { (tick(value)) }
        }
        line.axis x1=(x.start) x2=(x.end) y1=(y.start) y2=(y.start) {}
        text.label x=(middle) y=(HEIGHT - 6.0) text-anchor="middle" { (x_label) }
        text.label x=(x.start) y="14" text-anchor="start" { (y_label) }
    }
}

/// Width of a bar of the histogram, in nats.
const BAR_NATS: f64 = 0.5;
/// Maximum number of bars; the last one, from 19.5 nats on, counts all larger values.
const BARS_MAX: usize = 40;

/// Draws how often each negative log-likelihood occurs, and marks `mean`.
pub fn histogram(records: &[TokenRecord], mean: Option<f64>) -> Markup {
    let bar = |nll: f64| ((nll / BAR_NATS) as usize).min(BARS_MAX - 1);
    let n_bars = records.iter().map(|record| bar(record.nll()) + 1).max().unwrap_or(1).max(4);
    let mut counts = vec![0_usize; n_bars];
    records.iter().for_each(|record| counts[bar(record.nll())] += 1);
    let share = |count: usize| 100.0 * count as f64 / records.len().max(1) as f64;
    let most = counts.iter().copied().max().unwrap_or(0);
    let x = x_scale(0.0, n_bars as f64 * BAR_NATS);
    let y = y_scale(share(most).max(1.0) * 1.05);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label="Histogram of the negative log-likelihood" {
            (axes(&x, &y, "-log P of a token, in nats", "% of tokens"))
            @for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                @let (from, to) = (i as f64 * BAR_NATS, (i + 1) as f64 * BAR_NATS);
                @let last = i + 1 == BARS_MAX;
                rect.bar x=(x.at(from) + 0.5) width=(x.at(to) - x.at(from) - 1.0) y=(y.at(share(count)))
                    height=(y.start - y.at(share(count))) {
                    title {
                        (tick(from)) @if last { " or more" } @else { " to " (tick(to)) }
                        ": " (plural(count, "token")) ", " (format!("{:.1}", share(count))) "%"
                    }
                }
            }
            @if let Some(mean) = mean.filter(|&mean| mean < x.to) {
                line.mean x1=(x.at(mean)) x2=(x.at(mean)) y1=(y.start) y2=(TOP) {}
                @let right = x.at(mean) > WIDTH / 2.0;
                text.mean-label x=(x.at(mean) + if right { -5.0 } else { 5.0 }) y=(TOP + 14.0)
                    text-anchor=(if right { "end" } else { "start" }) { "mean " (format!("{mean:.3}")) }
            }
        }
    }
}

/// Maximum number of groups of neighbouring positions whose means are drawn.
const GROUPS_MAX: usize = 48;

/// Draws the mean negative log-likelihood by position in the window.
pub fn by_position(records: &[TokenRecord]) -> Markup {
    let positions = || records.iter().map(|record| record.position);
    let (first, last) = (positions().min().unwrap_or(0), positions().max().unwrap_or(0));
    let size = (last - first + 1).div_ceil(GROUPS_MAX);
    let mut groups = vec![(0.0, 0_usize); (last - first + 1).div_ceil(size)];
    for record in records.iter().filter(|record| record.nll().is_finite()) {
        let group = &mut groups[(record.position - first) / size];
        *group = (group.0 + record.nll(), group.1 + 1);
    }
    // First position, last position, mean, number of tokens.
    let points: Vec<(usize, usize, f64, usize)> = groups
        .iter()
        .enumerate()
        .filter(|(_, (_, n))| *n > 0)
        .map(|(i, (sum, n))| (first + i * size, (first + (i + 1) * size - 1).min(last), sum / *n as f64, *n))
        .collect();
    let most = points.iter().map(|point| point.2).fold(0.5, f64::max);
    let x = x_scale(first as f64, (last as f64).max(first as f64 + 1.0));
    let y = y_scale(most * 1.08);
    let at = |&(from, to, mean, _): &(usize, usize, f64, usize)| {
        (x.at(f64::midpoint(from as f64, to as f64)), y.at(mean))
    };
    let line: Vec<String> =
        points.iter().map(|point| format!("{:.1},{:.1}", at(point).0, at(point).1)).collect();
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label="Mean loss by position in the window" {
            (axes(&x, &y, "tokens before it in the window", "mean -log P, in nats"))
            polyline.line points=(line.join(" ")) {}
            @for point in &points {
                @let (from, to, mean, n) = point;
                circle.dot cx=(at(point).0) cy=(at(point).1) r="3.2" {
                    title {
                        (from) @if to > from { " to " (to) }
                        ": " (format!("{mean:.3}")) " over " (plural(*n, "token"))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(nlls: &[f32]) -> Vec<TokenRecord> {
        let record = |(i, nll): (usize, &f32)| TokenRecord {
            document: 0,
            index: i,
            position: i + 1,
            token: 0,
            logprob: -nll,
            rank: 0,
            best: 0,
            best_logprob: 0.0,
        };
        nlls.iter().enumerate().map(record).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(y_scale(17.0).ticks(4), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(x_scale(256.0, 511.0).ticks(8), [300.0, 350.0, 400.0, 450.0, 500.0]);
        assert_eq!([tick(0.5), tick(20.0), tick(0.1 + 0.2)], ["0.5", "20", "0.3"]);
    }

    #[test]
    fn charts_count_every_token() {
        let few = records(&[0.1, 0.2, 3.0, 99.0, f32::INFINITY]);
        let picture = histogram(&few, Some(2.0)).into_string();
        for text in
            ["0 to 0.5: 2 tokens, 40.0%", "3 to 3.5: 1 token,", "19.5 or more: 2 tokens", "mean 2.000"]
        {
            assert!(picture.contains(text), "{text}: {picture}");
        }
        // 500 positions in groups of 11; the infinite value is left out.
        let mut many = records(&[1.0; 500]);
        many[499].logprob = f32::NEG_INFINITY;
        let picture = by_position(&many).into_string();
        assert!(picture.contains("1 to 11: 1.000 over 11 tokens"), "{picture}");
        assert!(picture.contains("496 to 500: 1.000 over 4 tokens"), "{picture}");
        for picture in [by_position(&[]), histogram(&[], None), by_position(&few[..1])] {
            assert!(!picture.into_string().contains("NaN"));
        }
    }
}
