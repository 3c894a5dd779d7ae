//! Compares how probable several endings of one beginning are. The beginning is computed
//! once. Each ending continues it in a fork, and all endings are scored together on the
//! GPU:
//! `cargo run --release --example score`.

use wgpt::Engine;

fn main() -> wgpt::Result<()> {
    let engine = Engine::builder().build()?;
    let tokenizer = engine.tokenizer()?;
    let mut beginning = engine.session();
    beginning.prefill(&tokenizer.encode("Lily was very happy. She said, \"")?)?;

    let endings = ["Thank you, Mom!\"", "Go away!\"", "Seven elephants.\""];
    let tokens: Vec<Vec<u32>> =
        endings.iter().map(|ending| tokenizer.encode(ending)).collect::<Result<_, _>>()?;
    let mut forks: Vec<_> = endings.iter().map(|_| beginning.fork()).collect();
    let mut requests: Vec<_> = forks.iter_mut().zip(&tokens).map(|(fork, all)| (fork, &all[..])).collect();
    for (ending, logprobs) in endings.iter().zip(engine.score(&mut requests)?) {
        let nats = -logprobs.iter().sum::<f32>() / logprobs.len() as f32;
        println!("{nats:6.2} nats per token  {ending}");
    }
    Ok(())
}
