//! What can go wrong with a lab, in words that name the object and the remedy.

use std::path::PathBuf;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine cannot run the lab.
    #[error("this machine cannot run the lab: {reason}; {remedy}")]
    Unavailable {
        /// What is missing.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// There is no lab where one was looked for.
    #[error("no lab runs in {}; start one with `hawser-lab up`, or name another with --name or --directory", .0.display())]
    NotRunning(PathBuf),
    /// A lab is there already.
    #[error("a lab runs in {} already; end it with `hawser-lab down`, or give the new one another --name or --directory", .0.display())]
    Running(PathBuf),
    /// The directory holds something that is no lab.
    #[error("{} is not empty and holds no lab; nothing in it was touched: give another --directory", .0.display())]
    Foreign(PathBuf),
    /// An argument cannot be used.
    #[error("{field}: {reason}")]
    Invalid {
        /// The argument.
        field: &'static str,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
    /// The lab refused a request.
    #[error("{0}")]
    Refused(String),
    /// A node did not boot.
    #[error("node {node} did not boot: {reason}; the end of its console:\n{console}")]
    Boot {
        /// The node.
        node: String,
        /// Why, as far as the host knows.
        reason: String,
        /// Its last lines.
        console: String,
    },
    /// The system refused something.
    #[error("{action}: {source}")]
    System {
        /// What was tried, and on what.
        action: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Puts what was tried before the system's answer.
pub(crate) trait Tried<T> {
    /// Names the action and its object.
    fn tried(self, action: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T, E: Into<std::io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, action: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::System { action: action(), source: source.into() })
    }
}
