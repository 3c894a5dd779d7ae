use std::io::Write;
fn main() -> wgpt::Result<()> {
    let t = std::time::Instant::now();
    let engine = wgpt::Engine::builder().build_with(&mut |p| {
        eprintln!("{:?} {:?}", t.elapsed(), p);
        std::ops::ControlFlow::Continue(())
    })?;
    eprintln!("load {:?}", t.elapsed());
    let mut g = engine.generate(
        "Once upon a time",
        wgpt::GenerateOptions {
            max_new_tokens: Some(100),
            sampling: wgpt::sampling::SamplingParams::greedy(),
            ..Default::default()
        },
    )?;
    while let Some(p) = g.next() {
        print!("{}", p?.text);
        std::io::stdout().flush().ok();
    }
    println!("\n{:?} {:?} {:.1} tok/s", g.finish_reason(), g.timings(), g.timings().generation_rate());
    Ok(())
}
