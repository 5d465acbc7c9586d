//! Whole controllers behind mutual TLS on loopback, with satellites that obey and report as scripted.
//!
//! What is tested here is what a person or a satellite meets at the port: nothing is reached into, but in `deciding`, whose
//! moment passes too quickly to be met from there.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod cluster;
mod deciding;
mod documents;
mod lifecycle;
mod limits;
mod listing;
mod lost_node;
mod members;
mod relaying;
mod replicas;
mod restore;
mod satellite;
mod take_over;
mod watching;
