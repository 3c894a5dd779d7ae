//! Conversations saved in files.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wgpt::files::read_bounded;
use wgpt::{Error, Message};

use wgpt::files::NewFile;

/// Maximum size of a file in bytes, about 4 million tokens.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A conversation in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved<M> {
    messages: M,
}

/// Writes messages as JSON; the file appears only when it is complete.
pub fn save(path: &Path, messages: &[Message]) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(&Saved { messages })?;
    text.push('\n');
    let mut file = NewFile::create(path)?;
    file.write(text.as_bytes())?;
    Ok(file.finish()?)
}

/// Reads messages: an optional system message first, then turns.
pub fn load(path: &Path) -> Result<Vec<Message>, Error> {
    let name = path.display().to_string();
    let wrong = |message: String| Error::Model { file: name.clone(), message };
    let saved: Saved<Vec<Message>> =
        serde_json::from_slice(&read_bounded(path, FILE_BYTES_MAX)?).map_err(|error| {
            wrong(format!(
                "expected a conversation in the form that /save writes, {{\"messages\": [{{\"role\": ..., \
                 \"content\": ...}}]}}: {error}"
            ))
        })?;
    for (i, message) in saved.messages.iter().enumerate() {
        match message.role.as_str() {
            "user" | "assistant" => {}
            "system" if i == 0 => {}
            "system" => {
                return Err(wrong(format!("message {}: a system message must be the first message", i + 1)));
            }
            other => {
                return Err(wrong(format!(
                    "message {}: role {other:?}: expected system, user or assistant",
                    i + 1
                )));
            }
        }
    }
    Ok(saved.messages)
}
