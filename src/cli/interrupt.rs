//! Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use wgpt::engine::CancelFlag;

use super::exit::INTERRUPTED;

static FLAG: OnceLock<CancelFlag> = OnceLock::new();
/// Nobody looks at the flag at present.
static BLOCKED: AtomicBool = AtomicBool::new(false);
/// A Ctrl-C soon behind another one is the same.
static PATIENT: AtomicBool = AtomicBool::new(false);
/// How soon: impatience, and no more than what an answer takes to stop.
const SAME: Duration = Duration::from_secs(1);
static FIRST: Mutex<Option<Instant>> = Mutex::new(None);
/// Files that are not complete yet: removed when the program ends at once.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Names a file to remove if the program ends at once.
pub fn begin_file(path: &Path) {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
}

/// The file is complete, or gone.
pub fn end_file(path: &Path) {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|unfinished| unfinished != path);
}

/// The flag that the first Ctrl-C raises; the second one ends the program at
/// once.
pub fn flag() -> CancelFlag {
    FLAG.get_or_init(|| {
        let flag = CancelFlag::new(AtomicBool::new(false));
        let raised = flag.clone();
        let handler = move || {
            let again = raised.swap(true, Ordering::Relaxed);
            let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
            if PATIENT.load(Ordering::Relaxed) && first.is_some_and(|first| first.elapsed() < SAME) {
                return;
            }
            *first = Some(Instant::now());
            drop(first);
            if again || BLOCKED.load(Ordering::Relaxed) {
                for path in &*UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = std::fs::remove_file(path);
                }
                put_mode_back();
                end_at_once();
            }
        };
        // Where no handler can be set, Ctrl-C ends the program as it always does.
        let _ = ctrlc::set_handler(handler);
        flag
    })
    .clone()
}

/// Ends the program without what usually runs at its end: the driver's own clean-up
/// takes away what its compiler uses in another thread at this moment, and Mesa's then
/// crashes. Nothing of ours is lost: whatever was printed was flushed.
#[allow(unsafe_code, reason = "the standard library has no _exit")]
fn end_at_once() -> ! {
    #[cfg(unix)]
    {
        // SAFETY: the declaration is POSIX's `void _exit(int)`, which never returns and
        // asks nothing of its caller.
        unsafe extern "C" {
            safe fn _exit(status: std::ffi::c_int) -> !;
        }
        _exit(INTERRUPTED.into())
    }
    #[cfg(not(unix))]
    std::process::exit(INTERRUPTED.into())
}

/// Whether Ctrl-C was pressed.
pub fn raised(flag: &CancelFlag) -> bool {
    flag.load(Ordering::Relaxed)
}

/// From now on a Ctrl-C within a second of another one ends nothing: who stops an answer
/// twice means the answer.
pub fn be_patient() {
    PATIENT.store(true, Ordering::Relaxed);
}

/// Takes back a Ctrl-C that has done its work, such as ending an answer.
pub fn lower(flag: &CancelFlag) {
    flag.store(false, Ordering::Relaxed);
}

/// Runs what may wait for the user, such as reading stdin: the first Ctrl-C
/// ends the program.
pub fn blocked<T>(wait: impl FnOnce() -> T) -> T {
    BLOCKED.store(true, Ordering::Relaxed);
    let value = wait();
    BLOCKED.store(false, Ordering::Relaxed);
    value
}

/// As [`blocked`], while the terminal is in another mode: it is put back before the
/// program ends.
pub fn blocked_in_a_mode<T>(wait: impl FnOnce() -> T) -> T {
    *MODE.lock().unwrap_or_else(PoisonError::into_inner) = terminal_mode();
    let value = blocked(wait);
    *MODE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    value
}

#[cfg(unix)]
type Mode = nix::sys::termios::Termios;
/// Windows gives a console back to its owner by itself.
#[cfg(not(unix))]
type Mode = ();

/// The terminal's mode of before, where it may be in another one.
static MODE: Mutex<Option<Mode>> = Mutex::new(None);

fn terminal_mode() -> Option<Mode> {
    #[cfg(unix)]
    return nix::sys::termios::tcgetattr(std::io::stdin()).ok();
    #[cfg(not(unix))]
    None
}

fn put_mode_back() {
    #[cfg(unix)]
    if let Some(mode) = &*MODE.lock().unwrap_or_else(PoisonError::into_inner) {
        let now = nix::sys::termios::SetArg::TCSANOW;
        let _ = nix::sys::termios::tcsetattr(std::io::stdin(), now, mode);
    }
}
