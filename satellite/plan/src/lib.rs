//! What a node has to do next: desired × observed × what the ledger remembers → steps.
//!
//! This crate is pure. It must never do I/O, read a clock or a random number, or iterate over anything
//! without an order: the same inputs give the same plan, in production and under simulation.
//!
//! * [`step`]: the verbs, everything that may change the system below.
//! * [`observed`]: what was found on the node, with "I could not look" kept apart from "nothing there".

pub mod observed;
pub mod step;
