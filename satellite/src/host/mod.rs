//! The system below the satellite: the only room that starts a process or reads `/proc`, `/sys` and devices.
//!
//! [`Host`] is the door: it finds out, it carries out single steps, and it wakes its caller when the kernel
//! reports a change. It decides nothing: which step is due is the plan's business.
//!
//! * [`system`]: the real one. [`sim`]: a model of it that passes the same tests.
//! * [`command`]: runs a program; [`deadline`] shares a time among several. [`beside`]: what may wait for a disk.
//!   [`devices`]: sysfs and block devices. [`facts`]: what the node can do. [`numbers`]: minors and ports that the
//!   kernel holds.
//! * [`storage`]: what volumes are cut from; [`lvm`]: thin pools and volume groups; [`directory`]: files.
//!   [`durable`]: changes of files that outlast a power cut.
//! * [`drbd`]: configuration, metadata, events and the driver of each generation.
//! * [`gate`]: the map that consumers open; [`openers`]: who does.

mod beside;
pub mod command;
mod deadline;
pub mod devices;
mod directory;
pub mod drbd;
mod durable;
pub mod facts;
pub mod gate;
pub mod lvm;
pub mod numbers;
pub mod openers;
mod percentage;
pub mod sim;
pub mod storage;
pub mod system;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use hawser_plan::{
    observed::{PoolFound, ReplicaFound, Subject},
    step::{Provider, Step},
};
use tokio::sync::watch;

pub(crate) use self::deadline::Deadline;
pub use self::{command::CommandError, facts::Facts, numbers::Numbers, system::SystemHost};

/// The system below a satellite, real or simulated.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// What the node is and what is missing on it. Never fails: what cannot be found out is said in
    /// [`Facts::missing`].
    async fn facts(&self) -> Facts;

    /// Minors and ports that the kernel holds, Hawser's own among them. None where there is no kernel to ask.
    async fn numbers(&self) -> Numbers {
        Numbers::default()
    }

    /// How a pool stands now.
    ///
    /// # Errors
    /// The pool is not there, is not of its provider's kind, or cannot be asked.
    async fn pool(&self, provider: &Provider) -> Result<PoolFound, HostError>;

    /// What is on the node of each subject, in their order. The kernel is asked after the call has begun,
    /// so that an answer proves a state later than everything the caller did before. What could not be
    /// looked at is `Unknown` in the answer; the call itself does not fail.
    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound>;

    /// Carries out one step. Dropping the future ends the commands that it started.
    ///
    /// # Errors
    /// The step was refused, a tool failed, or the deadline passed. The system may be anywhere between
    /// before and after; looking tells.
    async fn execute(&self, step: &Step, deadline: Duration) -> Result<(), HostError>;

    /// A number that rises when the kernel reports a change, so that its watcher looks again at once.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Why something could not be found out or done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A command failed, or never ended.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The step would change what is not Hawser's, or what is not as the step expects. Nothing was changed.
    #[error("{object}: {reason}")]
    Refused {
        /// What the step is about, e.g. "logical volume vg0/vol1.9-0".
        object: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The node cannot do it.
    #[error("{what} is not supported here: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// A file, directory or device could not be used.
    #[error("{path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// Something was read from a disk that does not answer; whoever reads it is stuck in the kernel.
    #[error("{what} could not be read within {} s: its disk does not answer", .deadline.as_secs_f32())]
    Wedged {
        /// What was read.
        what: String,
        /// The time it was given.
        deadline: Duration,
    },
    /// What the step waits for did not come about in time.
    #[error("{what} did not come about within {} s", .deadline.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The time it was given.
        deadline: Duration,
    },
}

impl HostError {
    /// The command line that failed; empty where no command did.
    pub fn command(&self) -> &str {
        match self {
            HostError::Command(error) => error.command(),
            _ => "",
        }
    }

    /// Whether a child is stuck in the kernel, so that no more commands of its kind should be started.
    pub fn is_wedged(&self) -> bool {
        matches!(self, HostError::Command(CommandError::Wedged { .. }) | HostError::Wedged { .. })
    }

    fn refused(object: impl Into<String>, reason: impl Into<String>) -> Self {
        HostError::Refused { object: object.into(), reason: reason.into() }
    }

    fn file(path: &Path, error: &std::io::Error) -> Self {
        HostError::File { path: path.display().to_string(), reason: error.to_string() }
    }
}
