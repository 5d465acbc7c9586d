//! Room for the connections that a program admits: the system's limit of files that it may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What every system gives to a process.
const LEAST: usize = 256;

/// How many files this process may have open.
#[must_use]
pub fn limit() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE)
        .map_or(LEAST, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX).max(LEAST))
}

/// Raises the limit as far as this process may. It is the whole process's, so only a program does so, when it starts.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, limit = limit(), "the limit of open files stays as it is");
    }
}
