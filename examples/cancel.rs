//! Streams text from a separate thread and stops it from outside:
//! `cargo run --release --example cancel`.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use wgpt::{CancelFlag, Engine, GenerateOptions};

fn main() -> wgpt::Result<()> {
    let engine = Engine::builder().build()?;
    let cancel = CancelFlag::default();
    let options = GenerateOptions { cancel: Some(cancel.clone()), ..GenerateOptions::default() };

    let (sender, pieces) = mpsc::channel();
    let worker = std::thread::spawn(move || -> wgpt::Result<_> {
        let mut generation = engine.generate("Once upon a time", options)?;
        for piece in generation.by_ref() {
            // A missing receiver is not an error.
            let _ = sender.send(piece?.text);
        }
        Ok((generation.finish_reason(), generation.tokens().len()))
    });

    // The flag also stops the prefill of a long prompt after the current chunk.
    for (i, text) in pieces.iter().enumerate() {
        print!("{text}");
        if i == 20 {
            cancel.store(true, Ordering::Relaxed);
        }
    }
    println!();
    if let Ok(ended) = worker.join() {
        let (reason, n_tokens) = ended?;
        println!("ended after {n_tokens} tokens: {}", reason.map_or("running", |reason| reason.name()));
    }
    Ok(())
}
