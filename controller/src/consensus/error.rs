//! Why consensus refused or could not answer. The messages are for the person who reads them.

use std::path::PathBuf;

use hawser_proto::v1;

/// Why a command was not committed, or is not known to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead. Nothing was proposed; ask the leader.
    #[error("this controller does not lead{}", leader_hint(.leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<v1::Member>,
    },
    /// No majority of the members answered in time. **The command may still be committed later**: ask again
    /// with the same request key.
    #[error("{0}")]
    Unavailable(String),
    /// The command is larger than what a log entry may hold. Nothing was proposed.
    #[error(
        "the request makes a command of {size} bytes, and at most {limit} are allowed; ask for less at once"
    )]
    TooLarge {
        /// Size of the encoded command, in bytes.
        size: usize,
        /// Largest size that is accepted, in bytes.
        limit: usize,
    },
    /// The reign that the command was computed in has ended. What it was computed from may have changed.
    #[error("the leadership under which this was decided has ended; decide again")]
    TermEnded,
    /// This member has stopped: orderly, or because its store failed.
    #[error("this controller's consensus has stopped; its log says why")]
    Stopped,
}

/// Why no linearizable read point could be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// This member does not lead; ask the leader.
    #[error("this controller does not lead{}", leader_hint(.leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<v1::Member>,
    },
    /// No majority of the members answered in time.
    #[error("{0}")]
    Unavailable(String),
    /// This member has stopped: orderly, or because its store failed.
    #[error("this controller's consensus has stopped; its log says why")]
    Stopped,
}

fn leader_hint(leader: Option<&v1::Member>) -> String {
    match leader {
        Some(leader) => format!("; {} at {} does", leader.name, leader.address),
        None => "; no leader is known at the moment".to_owned(),
    }
}

/// Why this controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is neither a store nor an order to make one.
    #[error(
        "{} holds no store, and no order to make one. For the first controller of a new cluster run \
         `hawser cluster init`; for another one run `hawser cluster add-member NAME ADDRESS` against the \
         cluster; where all controllers are lost, run `hawser cluster restore` on a backup. Put the create-store.json that it writes into that directory. If this controller had a \
         store before, it is lost: never put an old copy in its place; run `hawser cluster remove-member NAME` first \
         and `hawser cluster add-member NAME ADDRESS` then",
        .data_directory.display()
    )]
    NoStore {
        /// Where a store was looked for.
        data_directory: PathBuf,
    },
    /// The order cannot be obeyed.
    #[error("{} cannot be used: {reason}", .path.display())]
    Order {
        /// The order.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The backup cannot be restored.
    #[error(
        "the backup {} {reason}. No store was made; run `hawser cluster restore` again on a backup that is whole", .path.display()
    )]
    Backup {
        /// The backup.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store belongs to somebody else than the configuration says.
    #[error("the store in {} {reason}", .path.display())]
    ForeignStore {
        /// The store.
        path: PathBuf,
        /// Whose it is and what to do.
        reason: String,
    },
    /// What the store holds cannot be trusted.
    #[error(
        "the store in {} is damaged: {reason}. Nothing was changed. Do not repair it by hand and do not put \
         an old copy in its place: this controller may have acknowledged what is missing. Move the data \
         directory aside, run `hawser cluster remove-member NAME` and `hawser cluster add-member NAME ADDRESS`, and \
         start this controller with the order that this writes",
        .path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// openraft refused to start.
    #[error("consensus did not start: {0}")]
    Raft(String),
}
