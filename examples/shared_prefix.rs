//! Two texts share a beginning, whose keys and values are stored on the GPU only once:
//! `cargo run --release --example shared_prefix`.

use wgpt::{Engine, Session};

/// Adds `tokens`, then generates `n` tokens, always the most probable one.
fn go_on(session: &mut Session, tokens: &[u32], n: usize) -> wgpt::Result<Vec<u32>> {
    let mut next = session.advance_greedy(tokens)?;
    let mut all = vec![next];
    while all.len() < n {
        next = session.advance_greedy(&[next])?;
        all.push(next);
    }
    Ok(all)
}

fn main() -> wgpt::Result<()> {
    let engine = Engine::builder().build()?;
    let tokenizer = engine.tokenizer()?;
    let beginning = "One day a girl called Lily went to the park with her mom. They saw a big tree, and under the \
                     tree there was a box. ";
    let mut one = engine.session();
    one.prefill(&tokenizer.encode(beginning)?)?;
    let mut other = one.fork();
    println!("{} tokens in {} pages, for both", one.len(), engine.kv_pages().0);

    for (session, ending) in [(&mut one, "In the box"), (&mut other, "Lily was afraid")] {
        let tokens = go_on(session, &tokenizer.encode(ending)?, 24)?;
        println!("{ending}{}", tokenizer.decode(&tokens, false)?);
    }
    println!("{} and {} tokens in {} pages", one.len(), other.len(), engine.kv_pages().0);
    Ok(())
}
