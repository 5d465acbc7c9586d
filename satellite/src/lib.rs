//! The satellite: makes one storage node as the controllers' document says, and reports what is there.
//!
//! ```text
//! link ─► ledger ─► exec: one worker per replica ─► plan (pure) ─► host
//!   ▲                        ▲      │
//!   └──── report ◄── board ◄─┴── observe
//! ```
//! Stopping or starting it must never touch running DRBD devices: what runs goes on running.

pub mod arbiter;
pub mod configuration;
pub mod controllers;
mod exec;
pub mod fence;
pub mod host;
pub mod keys;
pub mod ledger;
mod link;
pub mod metrics;
mod numbers;
pub mod observe;
mod orders;
mod pools;
pub mod report;
mod restore;
pub mod satellite;
mod unknown;
pub mod wanted;
