//! Closed pipes and Ctrl-C.

use std::io::{Read, Write};
use std::process::Child;

use crate::program::spawn;

/// Arguments for an endless text.
const ENDLESS: &[&str] =
    &["generate", "-p", "Once upon a time", "-n", "-1", "--overflow", "slide", "--ignore-eos"];

/// Returns the rest of a stream as text.
fn rest(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    stream.unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_some(child: &mut Child) {
    let mut some = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let mut child = spawn(ENDLESS);
    read_some(&mut child);
    drop(child.stdout.take());
    let stderr = rest(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{stderr}");

    for args in [&["inspect"][..], &["completions", "bash"], &["devices"]] {
        let mut child = spawn(args);
        drop(child.stdout.take());
        let stderr = rest(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?} {stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
}

#[test]
fn a_closed_stderr_is_no_error() {
    let mut child = spawn(&["generate", "-p", "Once", "-n", "2", "--temp", "0"]);
    drop(child.stderr.take());
    assert!(rest(child.stdout.take()).ends_with('\n'));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_text_with_a_summary() {
    let mut child = spawn(ENDLESS);
    read_some(&mut child);
    interrupt(&child);
    let (stdout, stderr) = (rest(child.stdout.take()), rest(child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(stdout.ends_with('\n'), "{stdout:?}");
    assert!(stderr.contains("[cancelled | prompt "), "{stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}

/// Starts a command that reads stdin and writes most of a text to it. Once the command
/// has taken more than a pipe holds, its Ctrl-C handler is set up.
#[cfg(unix)]
fn reading(args: &[&str]) -> (Child, std::process::ChildStdin) {
    let mut child = spawn(args);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all("word ".repeat(200_000).as_bytes()).unwrap();
    (child, stdin)
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_wait_for_a_prompt() {
    let (mut child, stdin) = reading(&["perplexity", "-"]);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
    assert_eq!(rest(child.stdout.take()), "");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_load_or_an_evaluation() {
    let compare = ["compare", "demo", "demo", "-"];
    for (args, first) in [(&["perplexity", "-"][..], "perplexity "), (&compare[..], "A  ")] {
        let (mut child, stdin) = reading(args);
        drop(stdin);
        // The signal comes during tokenizing, loading or the first windows. Minutes of work
        // would follow.
        std::thread::sleep(std::time::Duration::from_millis(500));
        interrupt(&child);
        let (stdout, stderr) = (rest(child.stdout.take()), rest(child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
        if stdout.is_empty() {
            assert!(stderr.ends_with("error: cancelled\n"), "{stderr}");
        } else {
            assert!(stdout.starts_with(first), "{stdout}");
            assert!(stderr.contains("interrupted: "), "{stderr}");
        }
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_benchmark_with_partial_results() {
    use std::io::{BufRead, BufReader};

    // All rows would take minutes.
    let shapes = (1..3000).map(|n: u32| n.to_string()).collect::<Vec<_>>().join(",");
    let args = ["bench", "kernels", "--op", "argmax", "--shape", &shapes, "--probe-mib", "1"];
    let mut child = spawn(&args);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("argmax n=1 ") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "{}", rest(child.stderr.take()));
    }
    interrupt(&child);
    let (stdout, stderr) = (rest(Some(stdout)), rest(child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(stdout.contains("\nwgpt ") && stdout.contains(", kernels "), "{stdout}");
    assert!(!stdout.contains("argmax n=2999 ") && stderr.contains("interrupted"), "{stderr}");
}
