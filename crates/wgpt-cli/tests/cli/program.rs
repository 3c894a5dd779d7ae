//! Runs the binary and captures its results.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::models::root;

pub const BINARY: &str = env!("CARGO_BIN_EXE_wgpt");

/// No cache unless a test names one, so the user's cache is never read or written.
const QUIET: [(&str, &str); 2] = [("WGPT_CACHE_DIR", ""), ("WGPT_TUNE_SECONDS", "0")];

/// The results of a run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `wgpt` in the root of the repository, with arguments and stdin.
pub fn wgpt_with(args: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = assert_cmd::Command::new(BINARY);
    command.current_dir(root()).args(args).write_stdin(stdin).envs(QUIET).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let run = Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!run.stderr.contains("panicked"), "{args:?}: {run:#?}");
    run
}

/// Runs `wgpt` with an empty stdin.
pub fn wgpt(args: &[&str]) -> Run {
    wgpt_with(args, "", &[])
}

/// Starts `wgpt` with all three streams piped.
pub fn spawn(args: &[&str]) -> std::process::Child {
    spawn_with(args, &[])
}

/// Like [`spawn`], with environment variables.
pub fn spawn_with(args: &[&str], environment: &[(&str, &str)]) -> std::process::Child {
    Command::new(BINARY)
        .current_dir(root())
        .args(args)
        .envs(QUIET)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Run {
    /// Returns the run, which must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Returns stdout as JSON; the run must have succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok().stdout).unwrap()
    }

    /// Asserts an exit code, an empty stdout, and an `error:` with all `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        let error = self.stderr.split_once("error: ").map_or("", |(_, error)| error);
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {self:#?}");
        }
    }
}

/// Returns the ids of a JSON list.
pub fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// Joins ids in the form that `--tokens` takes.
pub fn joined(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}
