//! The orderly end: SIGTERM and SIGINT become one cancellation that every task of a program waits for.
//!
//! It must never end the process itself: what still has to be written down is for the tasks to finish.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that is cancelled by the first SIGTERM or SIGINT.
///
/// From this call on the two signals no longer end the process by themselves.
///
/// # Errors
/// If the signal handlers cannot be installed.
///
/// # Panics
/// Outside a tokio runtime.
pub fn cancelled_by_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = cancelled.cancelled() => return,
        };
        tracing::info!(signal = name, "asked to end");
        cancelled.cancel();
    });
    Ok(token)
}
