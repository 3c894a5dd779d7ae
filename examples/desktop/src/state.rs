//! Text and settings, saved between starts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use eframe::egui;
use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};
use wgpt::SamplingParams;

use crate::args::StateFile;

/// The text of the first start.
const FIRST_TEXT: &str = "Once upon a time, a little girl named Lily found an old map under her bed.";

/// The saved state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The text.
    pub text: String,
    /// All settings of the panel.
    pub settings: Settings,
}

impl Default for State {
    fn default() -> Self {
        State { text: FIRST_TEXT.into(), settings: Settings::default() }
    }
}

/// All settings of the panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens of one continuation.
    pub max_tokens: usize,
    /// Whether a continuation goes on after the model would end the text.
    pub past_end: bool,
    /// Whether pieces of GPU work stay within the budget.
    pub budgeted: bool,
    /// Time limit of a piece of GPU work, in milliseconds.
    pub budget_ms: f32,
    /// Whether the surprise of the text is shown.
    pub heat: bool,
    /// The model's directory; `None` for the embedded model.
    pub model: Option<PathBuf>,
    /// The adapter's name; `None` for the preferred one.
    pub adapter: Option<String>,
    /// The colour theme.
    pub theme: Theme,
}

/// The colour theme of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Theme {
    /// Follows the system.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl From<Theme> for egui::ThemePreference {
    fn from(theme: Theme) -> Self {
        match theme {
            Theme::System => egui::ThemePreference::System,
            Theme::Light => egui::ThemePreference::Light,
            Theme::Dark => egui::ThemePreference::Dark,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sampling: SamplingParams::default(),
            max_tokens: 120,
            past_end: false,
            budgeted: true,
            budget_ms: 4.0,
            heat: true,
            model: None,
            adapter: None,
            theme: Theme::System,
        }
    }
}

/// The file that stores the state.
#[derive(Clone, Debug)]
pub struct Store {
    path: Option<PathBuf>,
}

impl Store {
    /// Creates a store for the file. Nothing is stored if the platform has no directory for
    /// it.
    #[must_use]
    pub fn new(file: &StateFile) -> Self {
        let path = match file {
            StateFile::At(path) => Some(path.clone()),
            StateFile::None => None,
            StateFile::Platform => etcetera::choose_base_strategy().ok().map(|base| {
                let dir = base.state_dir().unwrap_or_else(|| base.data_dir());
                dir.join("wgpt-desktop").join("state.json")
            }),
        };
        Store { path }
    }

    /// Loads the saved state, or the defaults if there is none. Also returns a message if
    /// the file could not be read.
    #[must_use]
    pub fn load(&self) -> (State, Option<String>) {
        let Some(path) = &self.path else { return (State::default(), None) };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (State::default(), None),
            Err(error) => return (State::default(), Some(unreadable(path, &error.to_string()))),
        };
        match serde_json::from_slice(&bytes) {
            Ok(state) => (state, None),
            Err(error) => {
                // The next save would overwrite a text that the user may be able to repair.
                let aside = path.with_extension("json.damaged");
                let _ = std::fs::rename(path, &aside);
                let message = format!("{error}; the file is kept as {}", aside.display());
                (State::default(), Some(unreadable(path, &message)))
            }
        }
    }

    /// Saves the state. The file is written completely or not at all.
    ///
    /// # Errors
    /// A message that names the file.
    pub fn save(&self, state: &State) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let write = || -> std::io::Result<()> {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&serde_json::to_vec_pretty(state)?)?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error| format!("Text and settings could not be kept in {}: {error}", path.display()))
    }
}

fn unreadable(path: &Path, error: &str) -> String {
    format!("The text of the last time could not be read from {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_restored_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&StateFile::At(dir.path().join("sub/state.json")));
        assert_eq!(store.load(), (State::default(), None));
        let mut state = State { text: "日本\n\"a\"".into(), ..State::default() };
        state.settings.sampling.seed = Some(u64::MAX);
        state.settings.theme = Theme::Dark;
        store.save(&state).unwrap();
        assert_eq!(store.load(), (state, None));
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::fs::write(&path, "{\"text\": 3}").unwrap();
        let store = Store::new(&StateFile::At(path.clone()));
        let (state, notice) = store.load();
        assert_eq!(state, State::default());
        assert!(notice.unwrap().contains("state.json.damaged"));
        assert!(!path.exists() && path.with_extension("json.damaged").exists());
    }
}
