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
    if let Err(error) = handle(handler) {
        crate::output::complain(&format!("warning: Ctrl-C will end the process at once: {error}"));
    }
}

/// Calls `handler` for every request to end, on a thread of its own, which signals wake through a pipe: signal-hook's own
/// iterator would hold a pair of sockets, and this program has none.
#[cfg(unix)]
fn handle(handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use std::io::Read as _;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let (mut reader, writer) = std::io::pipe()?;
    let hangup = ends_with_its_terminal().then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    let wait = move || {
        while reader.read_exact(&mut [0]).is_ok() {
            handler();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

#[cfg(not(unix))]
fn handle(handler: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(handler)
}

/// Whether nobody asked to outlive the terminal, as `nohup` does by having SIGHUP ignored: a handler would undo that. Where
/// the system does not tell, SIGHUP is left as it is.
#[cfg(unix)]
fn ends_with_its_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 0)
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
