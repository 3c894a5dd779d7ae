//! The report as one page. The page loads nothing, and all text in it is escaped.

mod cells;
mod charts;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use wgpt_eval::perplexity::TokenRecord;

use super::output::{Report, bos, scored, windows, with_error};
use super::tokens::{Pieces, probability};
use cells::{Cell, Map, visible};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The page may use its inline style and script, but may not load anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// Number of colours of the map. A cell's colour is its nats, rounded down and limited to
/// the last colour.
const COLOURS: usize = 9;
/// Number of tokens in the list of the most surprising ones.
const SURPRISES: usize = 10;
/// Number of tokens that the list shows before a surprising one.
const SURPRISE_CONTEXT: usize = 12;

/// Returns the whole page.
///
/// # Errors
/// [`wgpt::Error::Model`] when the tokenizer's decoder fails.
pub fn page(report: &Report<'_>, pieces: &Pieces<'_>) -> anyhow::Result<String> {
    let (maps, left_out) = cells::maps(pieces)?;
    let surprises = surprises(pieces.records);
    let names: Vec<&str> = report.files.iter().map(|file| file.path.as_str()).collect();
    let title = format!("Perplexity of {} on {}", report.run.model, names.join(", "));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "wgpt " (report.run.version) };
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    @if !report.result.complete {
                        p.warning {
                            "The evaluation was interrupted: the figures cover only the part that was scored."
                        }
                    }
                    (figures(report))
                    (circumstances(report))
                }
                main {
                    (heat_map(pieces, &maps, left_out, &surprises))
                    section.charts {
                        figure {
                            figcaption { h2 { "How surprising the tokens are" } }
                            (charts::histogram(pieces.records, report.result.nll))
                        }
                        figure {
                            figcaption { h2 { "Loss by position in the window" } }
                            (charts::by_position(pieces.records))
                        }
                    }
                    (surprise_table(pieces, &maps, &surprises))
                }
                script type="application/json" id="figures" { (PreEscaped(data(&maps)?)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn figures(report: &Report<'_>) -> Markup {
    let result = &report.result;
    let mut cards = vec![
        ("perplexity", with_error(result.perplexity, result.perplexity_stderr, 3)),
        ("nats per token", with_error(result.nll, result.nll_stderr, 4)),
    ];
    let bits = [("bits per byte", result.bits_per_byte), ("bits per word", result.bits_per_word)];
    cards.extend(bits.into_iter().filter_map(|(label, value)| Some((label, format!("{:.4}", value?)))));
    cards.push(("tokens scored", result.tokens_scored.to_string()));
    html! {
        dl.cards {
            @for (label, value) in &cards {
                @let (value, error) = value.split_once(" +/- ").unwrap_or((value, ""));
                div {
                    dt { (label) }
                    dd { (value) @if !error.is_empty() { small { " \u{b1} " (error) } } }
                }
            }
        }
    }
}

fn circumstances(report: &Report<'_>) -> Markup {
    let (result, run) = (&report.result, &report.run);
    let mut rows = vec![
        ("protocol", result.protocol.to_string()),
        ("context", windows(result)),
        ("begin of text", bos(result)),
        ("scored", scored(result)),
        ("documents", report.documents.clone()),
        ("model", format!("{}, weights {}, cache {}", run.model, run.dtype.name(), run.kv_dtype.name())),
    ];
    rows.extend(report.model_sha256.iter().map(|digest| ("model sha256", digest.clone())));
    for file in report.files {
        rows.push(("text", format!("{}, {} bytes", file.path, file.bytes)));
        rows.push(("text sha256", file.sha256.clone()));
    }
    rows.push(("device", format!("{}, {}", run.device.name, run.device.driver_info)));
    rows.push(("created by", format!("wgpt {}", run.version)));
    html! {
        details {
            summary { "protocol " (result.protocol) ", context " (windows(result)) ", begin of text: " (bos(result)) }
            dl.rows {
                @for (label, value) in &rows { dt { (label) } dd { (value) } }
            }
            p {
                "Standard errors assume that tokens are independent. The standard error of the perplexity follows \
                 from the delta method. Figures of different protocols cannot be compared."
            }
        }
    }
}

fn heat_map(pieces: &Pieces<'_>, maps: &[Map<'_>], left_out: bool, surprises: &[usize]) -> Markup {
    let n_shown: usize = maps.iter().flat_map(|map| &map.cells).map(|cell| cell.figures.len()).sum();
    html! {
        section {
            h2 { "The text" }
            p.legend aria-hidden="true" {
                "-log P"
                @for i in 0..COLOURS {
                    span class={ "c" (i) } { (i) @if i + 1 == COLOURS { "+" } }
                }
                span.u { "not scored" }
            }
            p.hint { "Point at a token, tap it, or move with the arrow keys to see its figures." }
            @if left_out {
                p.warning {
                    "The map shows only the first " (n_shown) " tokens, so that the page stays fast. "
                    "The figures, the charts and the list below cover all " (pieces.records.len()) " scored tokens."
                }
            }
            div #map tabindex="0" role="group" aria-label="The text, coloured by surprise" aria-describedby="tip" {
                @for (i, map) in maps.iter().enumerate() {
                    @if maps.len() > 1 { h3 { (map.document.name) } }
                    p.text lang="" dir="auto" data-map=(i) {
                        @for cell in &map.cells { (cell_markup(cell, surprises)) }
                    }
                }
            }
            div #tip role="status" hidden {}
        }
    }
}

fn cell_markup(cell: &Cell, surprises: &[usize]) -> Markup {
    let colour = match cell.nll {
        None => "u".to_owned(),
        Some(nll) => format!("c{}", (nll as usize).min(COLOURS - 1)),
    };
    html! {
        @if cell.records.iter().any(|record| surprises.contains(record)) {
            i class=(colour) id={ "t" (cell.records[0]) } { (cell.text) }
        } @else {
            i class=(colour) { (cell.text) }
        }
    }
}

/// Returns the indices of the most surprising records, the most surprising first; equal
/// records keep their order.
fn surprises(records: &[TokenRecord]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by(|&a, &b| records[b].nll().total_cmp(&records[a].nll()));
    order.truncate(SURPRISES);
    order
}

fn surprise_table(pieces: &Pieces<'_>, maps: &[Map<'_>], surprises: &[usize]) -> Markup {
    // The first record of the cell, if the map includes it.
    let place = |i| {
        let cell = maps.iter().flat_map(|map| &map.cells).find(|cell| cell.records.contains(&i));
        cell.map(|cell| cell.records[0])
    };
    let sum: f64 = pieces.records.iter().map(TokenRecord::nll).sum();
    let marked = pieces.dominates.iter().filter(|&&marked| marked).count();
    html! {
        section {
            h2 { "The most surprising tokens" }
            p.hint {
                (marked) " of " (pieces.records.len()) " tokens make up half of the sum of -log P, "
                (format!("{sum:.1}")) " nats."
            }
            div.scroll { table {
                thead { tr {
                    th { "-log P" } th { "P" } th { "rank" } th { "in context" } th { "most probable" } th { "its P" }
                } }
                tbody { @for &i in surprises {
                    @let record = &pieces.records[i];
                    @let best = record.alternative();
                    tr {
                        td.n { (format!("{:.3}", record.nll())) }
                        td.n { (probability(record.probability())) }
                        td.n { (record.rank) }
                        td.place {
                            (before(pieces, record))
                            @if let Some(place) = place(i) {
                                a href={ "#t" (place) } { (shown(pieces, record.token)) }
                            } @else {
                                b { (shown(pieces, record.token)) }
                            }
                        }
                        td { @if let Some((token, _)) = best { code { (shown(pieces, token)) } } }
                        td.n { @if let Some((_, p)) = best { (probability(p)) } }
                    }
                } }
            } }
        }
    }
}

/// Returns a token's text with invisible characters made visible.
fn shown(pieces: &Pieces<'_>, token: u32) -> String {
    visible(&pieces.text(token)).replace(' ', "\u{2423}").replace(['\n', '\t'], "")
}

/// Returns the text before a token, on one line.
fn before(pieces: &Pieces<'_>, record: &TokenRecord) -> String {
    let start = record.index.saturating_sub(SURPRISE_CONTEXT);
    let tokens = &pieces.documents[record.document].tokens[start..record.index];
    let bytes: Vec<u8> = tokens.iter().flat_map(|&token| pieces.tokenizer.token_bytes(token)).collect();
    // The first token may begin in the middle of a character.
    let text: String = bytes.utf8_chunks().map(|chunk| chunk.valid()).collect();
    let text = visible(&text).replace(['\n', '\t'], " ");
    if start > 0 { format!("\u{2026}{text}") } else { text }
}

/// Returns the cells' figures as JSON with `<` escaped, so that no text can end the
/// script element.
fn data(maps: &[Map<'_>]) -> serde_json::Result<String> {
    let figures: Vec<Vec<_>> =
        maps.iter().map(|map| map.cells.iter().map(|cell| &cell.figures).collect()).collect();
    Ok(serde_json::to_string(&figures)?.replace('<', "\\u003c"))
}
