//! The report that every driver prints: one JSON object. Fields that llama-bench also
//! prints have the same names.

/// One measured decode run.
pub struct Report<'a> {
    /// Name and version of the engine's crate.
    pub engine: &'a str,
    /// Adapter name as the driver reports it; compare it with `wgpt devices`.
    pub adapter: &'a str,
    /// Description of the model's shape.
    pub model: &'a str,
    /// Data type of the weights on the GPU.
    pub dtype: &'a str,
    /// Tokens in the context before the first timed step.
    pub n_depth: usize,
    /// Seconds from the opened file until weights and pipelines are on the device.
    pub load_seconds: f64,
    /// Seconds to prefill the `n_depth` tokens of the prompt, if that was timed.
    pub prompt_seconds: Option<f64>,
    /// Seconds of each decode step; each step decodes one token.
    pub step_seconds: &'a [f64],
    /// The greedily chosen tokens. Equal weights give equal tokens.
    pub tokens: &'a [u32],
}

impl Report<'_> {
    /// Prints the report to stdout.
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
