//! `hawser` on the host, as the administrator of a lab's cluster types it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::Instant;

use crate::error::{LabError, Tried};

const COMMAND_DEADLINE: Duration = Duration::from_secs(180);
/// Between two attempts while something comes up that nobody announces.
const PAUSE: Duration = Duration::from_millis(100);

/// The command line with a client configuration.
pub struct Administrator {
    program: PathBuf,
    configuration: PathBuf,
}

#[derive(Deserialize)]
struct Status {
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    role: String,
}

impl Administrator {
    /// Uses `hawser` from this directory, with this client configuration.
    pub fn new(programs: &Path, configuration: &Path) -> Self {
        Self { program: programs.join("hawser"), configuration: configuration.to_owned() }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// The command line and what `hawser` said.
    pub async fn run(&self, arguments: &[&str]) -> Result<(), LabError> {
        self.output(arguments).await.map(drop)
    }

    /// Runs a command again and again until it succeeds.
    ///
    /// # Errors
    /// What `hawser` said the last time.
    pub async fn until_done(&self, arguments: &[&str], deadline: Duration) -> Result<(), LabError> {
        let end = Instant::now() + deadline;
        loop {
            match self.run(arguments).await {
                Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    /// Registers something, again and again until it is there: what has to be asked may not have come up yet.
    ///
    /// # Errors
    /// What `hawser` said the last time.
    pub async fn until_created(&self, arguments: &[&str], deadline: Duration) -> Result<(), LabError> {
        let end = Instant::now() + deadline;
        let mut tried = false;
        loop {
            match self.run(arguments).await {
                // The answer to the attempt before may have been lost, and not the attempt.
                Err(error) if tried && error.to_string().contains(" already") => return Ok(()),
                Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
            tried = true;
        }
    }

    /// Announces a controller and writes the order that makes its store to `order`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn add_member(&self, name: &str, address: &str, order: &Path) -> Result<(), LabError> {
        let order = order.to_string_lossy();
        let arguments = ["cluster", "add-member", name, address, "--out", &order];
        self.until_done(&arguments, COMMAND_DEADLINE).await
    }

    /// Waits until this many controllers vote.
    ///
    /// # Errors
    /// How many did when the time was over.
    pub async fn until_all_vote(&self, voters: usize, deadline: Duration) -> Result<(), LabError> {
        let end = Instant::now() + deadline;
        loop {
            let output = self.output(&["cluster", "status", "-o", "json"]).await;
            let status = output.as_ref().ok().and_then(|output| voters_in(&output.stdout));
            if status == Some(voters) {
                return Ok(());
            }
            if Instant::now() >= end {
                output?;
                return Err(LabError::Refused(format!(
                    "only {} of {voters} controllers vote after {deadline:?}; see `hawser cluster status` and \
                     `hawser-lab logs n2 hawser-controller`",
                    status.unwrap_or_default()
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output, LabError> {
        let mut all: Vec<&OsStr> = vec![OsStr::new("--config"), self.configuration.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        run_program(&self.program, &all).await
    }
}

/// Runs `hawser`, with or without a configuration, under a deadline.
///
/// # Errors
/// The command line and what the program said.
pub(super) async fn run_program(program: &Path, arguments: &[&OsStr]) -> Result<Output, LabError> {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let line = format!("hawser {}", words.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_DEADLINE, command.output())
        .await
        .map_err(|_| LabError::Refused(format!("`{line}` did not end within {COMMAND_DEADLINE:?}")))?
        .tried(|| {
            format!("cannot run {}; build it with `cargo build --workspace --bins`", program.display())
        })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Refused(format!("`{line}` failed: {said}")))
}

fn voters_in(text: &[u8]) -> Option<usize> {
    let status: Status = serde_json::from_slice(text).ok()?;
    Some(status.members.iter().filter(|member| member.role.eq_ignore_ascii_case("voter")).count())
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{bytes, check};

    use super::*;

    #[test]
    fn voters_are_counted_and_learners_are_not() {
        let text = br#"{"members":[{"role":"voter","name":"n1"},{"role":"learner"},{"role":"voter"}]}"#;
        assert_eq!(voters_in(text), Some(2));
        assert_eq!(voters_in(b"nobody answers"), None);
    }

    #[test]
    fn hostile_answers_of_the_command_line() {
        let text = br#"{"members":[{"role":"voter","name":"n1"},{"role":"learner"}]}"#;
        check(&bytes(&[text], &["voter", "members", "role"]), |answer| {
            if let Some(voters) = voters_in(&answer) {
                assert!(voters * "voter".len() <= answer.len(), "more voters than words");
            }
        });
    }
}
