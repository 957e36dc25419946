//! Ctrl-C: ends the process with code 130, unless a command listens and stops what it is doing instead.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler; called once by `main`.
pub fn install() {
    let handler = || {
        let asked_before = REQUESTED.swap(true, Ordering::SeqCst);
        // The second Ctrl-C always ends the process.
        if asked_before || LISTENERS.load(Ordering::SeqCst) == 0 {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        crate::output::complain(&format!("warning: Ctrl-C will end the process at once: {error}"));
    }
}

/// While one of these lives, the first Ctrl-C only sets its flag.
#[derive(Debug)]
pub struct Listener(());

impl Listener {
    /// Starts to listen.
    pub fn new() -> Self {
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Whether Ctrl-C came since the listener was made.
    pub fn requested(&self) -> bool {
        REQUESTED.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
        REQUESTED.store(false, Ordering::SeqCst);
    }
}
