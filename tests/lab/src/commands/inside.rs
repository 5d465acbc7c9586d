//! The lab's own process: where its words go.

use std::path::PathBuf;
use std::process::ExitCode;

use hawser_lab::daemon;
use hawser_lab::directories::LabDirectory;

/// Runs a lab. Standard output carries one word or the reason for a failure, standard error the log.
pub(super) fn run_lab(directory: PathBuf, tied: bool) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HAWSER_LAB_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(false)
        .init();
    match daemon::run(&LabDirectory::at(directory), tied) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the lab ended");
            print!("{error}");
            ExitCode::FAILURE
        }
    }
}
