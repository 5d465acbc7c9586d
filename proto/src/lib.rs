//! The contracts between Hawser's programs, and the forms that controllers store.
//!
//! Generated from `hawser/v1/*.proto`, with the rules for names, numbers and sizes that every door shares.
//! This crate must never decide anything: it knows forms, not rules about the cluster.

pub mod ids;
pub mod names;
pub mod numbers;
pub mod sizes;
#[cfg(feature = "snapshots")]
pub mod snapshot_file;

/// Version 1 of every contract.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/hawser.v1.rs"));
}
