//! Whole satellites, with ledger, workers, arbiter and helper, over a simulated system: what a person would
//! see of them. Time is paused: whatever is waited for comes without waiting.
#![allow(clippy::unwrap_used)]

mod cluster;
mod counting;
mod lifecycle;
mod outages;
mod questions;
mod replicas;
mod session;
