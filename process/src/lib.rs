//! What every Hawser program needs: configuration, TLS identity, telemetry, health and an orderly end.
//!
//! This crate must never know what a cluster is made of: it knows files, certificates and signals,
//! not nodes, resources or operations.

pub mod admission;
pub mod beside;
pub mod configuration;
pub mod dial;
pub mod health;
pub mod open_files;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod wall_clock;
