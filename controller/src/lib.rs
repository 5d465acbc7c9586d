//! A controller of a Hawser cluster: consensus over the desired state, the leader's loops, and the API.
//!
//! Arrows point one way: `view ← consensus ← leader ← api`.

pub mod api;
pub mod config;
pub mod consensus;
pub mod controller;
pub mod leader;
pub mod view;
