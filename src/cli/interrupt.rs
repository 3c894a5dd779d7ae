//! Ctrl-C.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpt::engine::CancelFlag;

use super::exit::INTERRUPTED;

static FLAG: OnceLock<CancelFlag> = OnceLock::new();
/// Nobody looks at the flag at present.
static BLOCKED: AtomicBool = AtomicBool::new(false);

/// The flag that the first Ctrl-C raises; the second one ends the program at
/// once.
pub fn flag() -> CancelFlag {
    FLAG.get_or_init(|| {
        let flag = CancelFlag::new(AtomicBool::new(false));
        let raised = flag.clone();
        let handler = move || {
            if raised.swap(true, Ordering::Relaxed) || BLOCKED.load(Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
        };
        // Where no handler can be set, Ctrl-C ends the program as it always does.
        let _ = ctrlc::set_handler(handler);
        flag
    })
    .clone()
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
