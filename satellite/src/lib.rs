//! The satellite: makes one storage node as the controllers' document says, and reports what is there.
//!
//! Stopping or starting it must never touch running DRBD devices: what runs goes on running.

pub mod ledger;
