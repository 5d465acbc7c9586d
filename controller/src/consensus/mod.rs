//! Consensus between controllers: the one place that knows openraft and sled.
//!
//! The rest of the controller sees [`Consensus`]: propose a command, wait for a read point, follow the
//! leadership, read the [`View`](crate::view::View). It must never decide anything about the desired state:
//! that is what `hawser-state` does with each committed command.

mod asking;
mod backup;
pub mod codec;
mod ending;
pub mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod hand_over;
mod handle;
#[cfg(test)]
mod hostile_tests;
mod join;
mod leadership;
pub mod log_store;
pub mod machine;
mod membership;
mod network;
mod next_change;
mod ordered_numbers;
mod parties;
mod recent;
mod removal;
mod restored_store;
mod roles;
mod server;
pub mod sled_engine;
pub mod snapshot;
mod snapshot_format;
#[cfg(test)]
mod snapshot_tests;
mod start;
mod status;
mod store_order;
mod transport;
pub mod types;
mod verify;
pub mod witness;
mod writer;

pub use asking::Committed;
pub use backup::{Backup, BackupError};
pub use error::{ProposeError, ReadError, StartError};
pub use hand_over::HandOverError;
pub use handle::Consensus;
pub use leadership::{Leadership, Role};
pub use ordered_numbers::OrderedNumbers;
pub use removal::LeadershipLost;
pub use restored_store::BACKUP_FILE;
pub use server::RaftDoor;
pub use start::{Options, Retention, Timing};
pub use status::{MemberStatus, Status};
pub use store_order::{Introducer, OBEYED_FILE, ORDER_FILE, StoreOrder};
pub use transport::Transport;

/// Largest encoded command that is accepted, in bytes.
///
/// A store keeps an entry in one atomic write, and a leader sends many in one message; both have room for
/// commands of this size.
pub const COMMAND_LIMIT: usize = 48 * 1024;
