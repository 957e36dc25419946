//! What can go wrong outside the arithmetic: a kernel set that does not exist or that this CPU cannot run.

/// Why a request to this crate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kernel set has that name.
    #[error("{place}: unknown kernel set `{name}`; there are {known}")]
    UnknownKernelSet {
        /// Where the name was written.
        place: &'static str,
        /// The name as given.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// The kernel set exists, but this CPU (or the system it runs under) lacks an instruction it needs.
    #[error("{place}: this CPU cannot run kernel set `{name}`; it can run {available}")]
    UnsupportedKernelSet {
        /// Where the name was written.
        place: &'static str,
        /// The name as given.
        name: String,
        /// The names of the sets it can run, separated by commas.
        available: String,
    },
}
