//! The plan's rules, checked from outside: what a node does next in each situation, and what it never does.
#![allow(clippy::unwrap_used)]

mod attachment;
mod desired;
mod drbd;
mod hostile;
mod properties;
mod release;
mod removal;
mod replicas;
mod scene;
mod storage;
