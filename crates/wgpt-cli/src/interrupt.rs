//! Handling of Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use wgpt::CancelFlag;

use super::exit::INTERRUPTED;

static FLAG: OnceLock<CancelFlag> = OnceLock::new();
/// True while no code polls the flag.
static BLOCKED: AtomicBool = AtomicBool::new(false);
/// Whether a Ctrl-C soon after another one counts as the same one.
static PATIENT: AtomicBool = AtomicBool::new(false);
/// The time in which a second Ctrl-C counts as the same one. An impatient user presses
/// twice, and an answer stops within this time.
const SAME: Duration = Duration::from_secs(1);
static FIRST: Mutex<Option<Instant>> = Mutex::new(None);
/// Returns the flag that the first Ctrl-C raises. The second Ctrl-C ends the program at
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
                wgpt::files::remove_unfinished();
                put_mode_back();
                end_at_once();
            }
        };
        // If no handler can be set, Ctrl-C ends the program by the system's default
        // action.
        let _ = ctrlc::set_handler(handler);
        flag
    })
    .clone()
}

/// Ends the program without the usual clean-up. In that clean-up, the driver frees state
/// that its compiler may still use in another thread; Mesa's compiler then crashes. No
/// output is lost, because all of it has been flushed.
#[allow(unsafe_code, reason = "the standard library has no _exit")]
fn end_at_once() -> ! {
    #[cfg(unix)]
    {
        // SAFETY: the declaration is POSIX's `void _exit(int)`, which never returns and
        // has no preconditions.
        unsafe extern "C" {
            safe fn _exit(status: std::ffi::c_int) -> !;
        }
        _exit(INTERRUPTED.into())
    }
    #[cfg(not(unix))]
    std::process::exit(INTERRUPTED.into())
}

/// Returns whether Ctrl-C was pressed.
pub fn raised(flag: &CancelFlag) -> bool {
    flag.load(Ordering::Relaxed)
}

/// After this call, a Ctrl-C within a second of another one is ignored: a user who presses
/// twice to stop an answer does not want to end the program.
pub fn be_patient() {
    PATIENT.store(true, Ordering::Relaxed);
}

/// Clears a Ctrl-C that has been handled, for example by ending an answer.
pub fn lower(flag: &CancelFlag) {
    flag.store(false, Ordering::Relaxed);
}

/// Runs code that may block without polling the flag, such as reading stdin. Meanwhile the
/// first Ctrl-C ends the program.
pub fn blocked<T>(wait: impl FnOnce() -> T) -> T {
    BLOCKED.store(true, Ordering::Relaxed);
    let value = wait();
    BLOCKED.store(false, Ordering::Relaxed);
    value
}

/// Like [`blocked`], for code that changes the terminal's mode. Ctrl-C restores the mode
/// before it ends the program.
pub fn blocked_in_a_mode<T>(wait: impl FnOnce() -> T) -> T {
    *MODE.lock().unwrap_or_else(PoisonError::into_inner) = terminal_mode();
    let value = blocked(wait);
    *MODE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    value
}

#[cfg(unix)]
type Mode = nix::sys::termios::Termios;
/// Windows restores a console's mode automatically.
#[cfg(not(unix))]
type Mode = ();

/// The terminal's original mode, set while the mode may be changed.
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
