//! A conversation: `cargo run --release --example chat -- path/to/instruct-model`.
//!
//! Without a path the demo model is used. It was trained on stories, not on conversations, so
//! it uses a chat template that needs no training.

use std::io::Write as _;

use wgpt::{Chat, Engine, GenerateOptions};

fn main() -> wgpt::Result<()> {
    let dir = std::env::args().nth(1);
    let engine = match &dir {
        Some(dir) => Engine::builder().model(dir).build()?,
        None => Engine::builder().build()?,
    };
    let template = engine.files().chat_template(if dir.is_some() { None } else { Some("plain") })?;
    let mut chat = Chat::new(&engine, template)?;
    for question in ["Tell me of a cat.", "And then?"] {
        println!("> {question}");
        let options = GenerateOptions {
            max_new_tokens: Some(40),
            stop: vec!["\nUser:".into()],
            ..GenerateOptions::default()
        };
        let mut answer = chat.send(question, options)?;
        for piece in &mut answer {
            print!("{}", piece?.text);
            let _ = std::io::stdout().flush();
        }
        let turn = answer.finish()?;
        println!("\n[{} prompt tokens, {} of them reused]", turn.prompt_tokens, turn.reused_tokens);
    }
    println!("{} messages", chat.messages().len());
    Ok(())
}
