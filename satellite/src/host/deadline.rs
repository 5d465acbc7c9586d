//! The time that a step or a look may take, shared by all the commands that it runs.
//!
//! A command is never started when the time is as good as over: it would be killed for what others took, and its
//! error would blame it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CommandError, HostError,
    command::{self, CommandLine, Output},
};

/// With less than this left no command is started; of a short time, a tenth.
const LEAST: Duration = Duration::from_millis(250);

/// A point in time. Its clones remember the same commands.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    given: Duration,
    end: Instant,
    /// The command that took longest so far.
    longest: Arc<Mutex<Option<(String, Duration)>>>,
}

impl Deadline {
    /// That much from now.
    pub(crate) fn after(given: Duration) -> Self {
        Deadline { given, end: Instant::now() + given, longest: Arc::default() }
    }

    /// What is left of it; not less than a moment.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(10))
    }

    /// The error that says that `what` did not happen in time.
    pub(crate) fn missed(&self, what: impl Into<String>) -> HostError {
        HostError::TimedOut { what: what.into(), deadline: self.given }
    }

    /// Runs a command that has to end with exit status 0, in the time that is left.
    ///
    /// # Errors
    /// As [`command::run`], and [`CommandError::NoTimeLeft`].
    pub(super) async fn run(&self, command: &CommandLine) -> Result<Output, CommandError> {
        let output = self.run_any_status(command).await?;
        if output.code == Some(0) { Ok(output) } else { Err(command::failed(command, &output)) }
    }

    /// Runs a command in the time that is left, whatever exit status it ends with.
    ///
    /// # Errors
    /// As [`command::run_any_status`], and [`CommandError::NoTimeLeft`].
    pub(super) async fn run_any_status(&self, command: &CommandLine) -> Result<Output, CommandError> {
        let began = Instant::now();
        let left = self.end.saturating_duration_since(began);
        if left < LEAST.min(self.given / 10) {
            return Err(CommandError::NoTimeLeft {
                command: command.to_string(),
                given: self.given,
                left,
                longest: self.longest.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            });
        }
        let output = command::run_any_status(command, left).await;
        let taken = began.elapsed();
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        if longest.as_ref().is_none_or(|(_, longest)| taken > *longest) {
            *longest = Some((command.to_string(), taken));
        }
        output
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_is_not_started_for_the_last_moment_and_who_took_the_time_is_named() {
        let deadline = Deadline::after(Duration::from_secs(30));
        let took = ("drbdsetup events2 --now".to_owned(), Duration::from_millis(29_700));
        *deadline.longest.lock().unwrap() = Some(took);
        tokio::time::advance(Duration::from_millis(29_900)).await;

        let error = deadline.clone().run(&CommandLine::new("lvs").arg("vg0")).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            "`lvs vg0` was not started: of the 30 s for all of this only 0.10 s were left; \
             `drbdsetup events2 --now` alone took 29.70 s"
        );
    }

    #[tokio::test]
    async fn the_command_that_takes_longest_is_remembered() {
        let deadline = Deadline::after(Duration::from_secs(60));
        for (program, exit) in [("true", Some(0)), ("false", Some(1))] {
            let output = deadline.run_any_status(&CommandLine::new(program)).await.unwrap();
            assert_eq!(output.code, exit);
        }

        let longest = deadline.longest.lock().unwrap().clone();

        assert!(longest.is_some_and(|(command, _)| command == "true" || command == "false"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_took_the_time_need_not_be_a_command() {
        let deadline = Deadline::after(Duration::from_secs(30));
        tokio::time::advance(Duration::from_millis(29_900)).await;

        let error = deadline.clone().run(&CommandLine::new("lvs")).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            "`lvs` was not started: of the 30 s for all of this only 0.10 s were left; no command took them"
        );
    }
}
