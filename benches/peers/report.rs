//! What every driver prints: one JSON object, named as in llama-bench's where it has the same.

/// A measured decode.
pub struct Report<'a> {
    /// Crate and version.
    pub engine: &'a str,
    /// As the driver calls it: compare it with `wgpt devices`.
    pub adapter: &'a str,
    /// Shape of the model.
    pub model: &'a str,
    /// Type of the weights on the GPU.
    pub dtype: &'a str,
    /// Tokens in the context before the first timed step.
    pub n_depth: usize,
    /// Seconds from the opened file to the weights and pipelines on the device.
    pub load_seconds: f64,
    /// Seconds of the prompt of `n_depth` tokens, where it was timed.
    pub prompt_seconds: Option<f64>,
    /// Seconds of each decode step, one token a step.
    pub step_seconds: &'a [f64],
    /// The greedy choices: the same weights give the same.
    pub tokens: &'a [u32],
}

impl Report<'_> {
    /// Prints it to stdout.
    pub fn print(&self) {
        let total: f64 = self.step_seconds.iter().sum();
        let least = self.step_seconds.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{{");
        println!("  \"engine\": {:?},", self.engine);
        println!("  \"adapter\": {:?},", self.adapter);
        println!("  \"model\": {:?},", self.model);
        println!("  \"dtype\": {:?},", self.dtype);
        println!("  \"n_depth\": {},", self.n_depth);
        println!("  \"n_gen\": {},", self.step_seconds.len());
        println!("  \"load_seconds\": {:.2},", self.load_seconds);
        if let Some(seconds) = self.prompt_seconds {
            println!("  \"prompt_ts\": {:.2},", self.n_depth as f64 / seconds);
        }
        println!("  \"avg_ts\": {:.4},", self.step_seconds.len() as f64 / total);
        println!("  \"max_ts\": {:.4},", 1.0 / least);
        println!("  \"step_seconds\": {:.4?},", self.step_seconds);
        println!("  \"tokens\": {:?}", self.tokens);
        println!("}}");
    }
}
