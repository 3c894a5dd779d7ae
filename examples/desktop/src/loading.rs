//! The model that is there, and the one that is coming.

use wgpt::model::{LoadPhase, LoadProgress};

use crate::worker::{ModelInfo, Source};

/// The model that is there, and the one that is coming.
#[derive(Debug)]
pub struct Loading {
    model: Option<(Source, ModelInfo)>,
    /// What is loaded, and how far it is.
    running: Option<(Source, Option<LoadProgress>)>,
    phase: Option<LoadPhase>,
}

impl Loading {
    /// The first model is coming.
    #[must_use]
    pub fn begin(source: Source) -> Self {
        Loading { model: None, running: Some((source, None)), phase: None }
    }

    /// Another one is.
    pub fn restart(&mut self, source: Source) {
        self.running = Some((source, None));
        self.phase = None;
    }

    /// The model that is there; none while another one is coming.
    #[must_use]
    pub fn model(&self) -> Option<&ModelInfo> {
        self.model.as_ref().map(|(_, model)| model).filter(|_| self.running.is_none())
    }

    /// Whether the embedded model is there, or comes.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        let coming = self.running.as_ref().map(|(source, _)| source);
        coming.or(self.model.as_ref().map(|(source, _)| source)) == Some(&Source::Embedded)
    }

    /// How far the one is that is coming.
    #[must_use]
    pub fn running(&self) -> Option<&Option<LoadProgress>> {
        self.running.as_ref().map(|(_, progress)| progress)
    }

    /// Notes progress; whether a phase begins with it. Reading takes turns with
    /// uploading, block by block, so that the latter tells of both.
    pub fn progress(&mut self, progress: LoadProgress) -> bool {
        if progress.phase == LoadPhase::Read {
            return false;
        }
        if let Some((_, known)) = &mut self.running {
            *known = Some(progress);
        }
        self.phase.replace(progress.phase) != Some(progress.phase)
    }

    /// It is there; which one it is.
    pub fn loaded(&mut self, model: ModelInfo) -> Option<Source> {
        let (source, _) = self.running.take()?;
        self.model = Some((source.clone(), model));
        Some(source)
    }

    /// It is not; whether the one before still is.
    pub fn failed(&mut self, kept: bool) {
        self.running = None;
        if !kept {
            self.model = None;
        }
    }
}
