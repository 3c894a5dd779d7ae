//! Tokens in, logits out: how probable are several endings of one beginning?
//! The beginning is computed once; each ending goes on in a fork.

use wgpt::Engine;
use wgpt::sampling::negative_log_likelihood;

fn main() -> wgpt::Result<()> {
    let engine = Engine::builder().build()?;
    let tokenizer = engine.tokenizer()?;
    let mut beginning = engine.session();
    let logits = beginning.advance(&tokenizer.encode("Lily was very happy. She said, \"")?)?.to_vec();
    for ending in ["Thank you, Mom!\"", "Go away!\"", "Seven elephants.\""] {
        let tokens = tokenizer.encode(ending)?;
        let mut nll = negative_log_likelihood(&logits, tokens[0])?;
        let mut session = beginning.fork();
        session.advance_each(&tokens, |i, logits| {
            if let Some(&next) = tokens.get(i + 1) {
                nll += negative_log_likelihood(logits, next)?;
            }
            Ok(())
        })?;
        println!("{:6.2} nats a token  {ending}", nll / tokens.len() as f64);
    }
    Ok(())
}
