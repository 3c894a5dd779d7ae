//! Continues a prompt: `cargo run --release --example generate -- "Once upon a time"`.

use std::io::Write as _;

use wgpt::{Engine, GenerateOptions};

fn main() -> wgpt::Result<()> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "Once upon a time".into());
    let engine = Engine::builder().build()?;
    print!("{prompt}");
    for piece in engine.generate(&prompt, GenerateOptions::default())? {
        print!("{}", piece?.text);
        // If the pipe is closed, the next print ends the program.
        let _ = std::io::stdout().flush();
    }
    println!();
    Ok(())
}
