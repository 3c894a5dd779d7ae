//! Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use wgpt::engine::CancelFlag;

use super::exit::INTERRUPTED;

static FLAG: OnceLock<CancelFlag> = OnceLock::new();
/// Nobody looks at the flag at present.
static BLOCKED: AtomicBool = AtomicBool::new(false);
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
            if raised.swap(true, Ordering::Relaxed) || BLOCKED.load(Ordering::Relaxed) {
                for path in &*UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = std::fs::remove_file(path);
                }
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

/// Runs what may wait for the user, such as reading stdin: the first Ctrl-C
/// ends the program.
pub fn blocked<T>(wait: impl FnOnce() -> T) -> T {
    BLOCKED.store(true, Ordering::Relaxed);
    let value = wait();
    BLOCKED.store(false, Ordering::Relaxed);
    value
}
