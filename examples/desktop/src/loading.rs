//! The loaded model, and the load in progress.

use wgpt::{LoadPhase, LoadProgress};

use crate::worker::{ModelInfo, Source};

/// The loaded model, and the load in progress.
#[derive(Debug)]
pub struct Loading {
    model: Option<(Source, ModelInfo)>,
    /// The source being loaded, and its progress.
    running: Option<(Source, Option<LoadProgress>)>,
    phase: Option<LoadPhase>,
}

impl Loading {
    /// Creates the state in which the first model is loading.
    #[must_use]
    pub fn begin(source: Source) -> Self {
        Loading { model: None, running: Some((source, None)), phase: None }
    }

    /// Records that the load of another model has started.
    pub fn restart(&mut self, source: Source) {
        self.running = Some((source, None));
        self.phase = None;
    }

    /// The loaded model; `None` while another one is loading.
    #[must_use]
    pub fn model(&self) -> Option<&ModelInfo> {
        self.model.as_ref().map(|(_, model)| model).filter(|_| self.running.is_none())
    }

    /// Whether the embedded model is loaded or loading.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        let coming = self.running.as_ref().map(|(source, _)| source);
        coming.or(self.model.as_ref().map(|(source, _)| source)) == Some(&Source::Embedded)
    }

    /// The progress of the load that is running; `None` if none is.
    #[must_use]
    pub fn running(&self) -> Option<&Option<LoadProgress>> {
        self.running.as_ref().map(|(_, progress)| progress)
    }

    /// Records progress. Returns whether a new phase started. Blocks are read and uploaded
    /// in turn, so the progress of the upload shows the progress of both.
    pub fn progress(&mut self, progress: LoadProgress) -> bool {
        if progress.phase == LoadPhase::Read {
            return false;
        }
        if let Some((_, known)) = &mut self.running {
            *known = Some(progress);
        }
        self.phase.replace(progress.phase) != Some(progress.phase)
    }

    /// Records that the model is loaded. Returns its source.
    pub fn loaded(&mut self, model: ModelInfo) -> Option<Source> {
        let (source, _) = self.running.take()?;
        self.model = Some((source.clone(), model));
        Some(source)
    }

    /// Records that the load failed. `kept` says whether the previous model is still
    /// loaded.
    pub fn failed(&mut self, kept: bool) {
        self.running = None;
        if !kept {
            self.model = None;
        }
    }
}
