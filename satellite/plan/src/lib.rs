//! What a node has to do next: desired × observed × what the ledger remembers → actions.
//!
//! This crate is pure. It must never do I/O, read a clock or a random number, or iterate over anything
//! without an order: the same inputs give the same plan, in production and under simulation.
//!
//! One file per layer, from below: `storage`, `drbd`, `attachment`; `behind` keeps account of whether this
//! node's copy is current, `release` lets go of a resource that another node owns now, and `removal` leaves nothing. [`plan`] puts them together.

mod attachment;
mod behind;
pub mod desired;
mod drbd;
pub mod observed;
mod plan;
mod release;
mod removal;
pub mod situation;
pub mod step;
mod storage;

pub use plan::{Action, Next, Note, Plan, Question, plan};
