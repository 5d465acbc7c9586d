//! The desired state of a cluster and the one function that changes it.
//!
//! [`apply`] takes a command of the Raft log to an outcome, the same on every controller. This crate
//! must never read a clock, draw a random number, do I/O, use floating point or iterate in an order
//! that is not the keys' own.

pub mod alloc;
mod apply;
mod capacity;
mod change;
mod desired;
mod drbd_sizes;
#[cfg(test)]
mod fixture;
mod index;
mod operations;
pub mod placement;
mod restored;
#[cfg(test)]
mod sequences;
mod state;
mod transaction;
mod verdict;

pub use apply::{Divergence, Effect, apply};
pub use capacity::{overcommit_percent, promisable_bytes};
pub use drbd_sizes::backing_size;
pub use restored::{NotRestorable, Restoration};
pub use state::{InvalidRecords, State};

/// The highest feature level that this release can apply.
pub const FEATURE_LEVEL: u32 = 1;

/// Commands between two states that a [`Checksum`](hawser_proto::v1::Checksum) is taken of.
pub const CHECKSUM_INTERVAL: u64 = 10_000;
