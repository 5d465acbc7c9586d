//! What every Hawser program needs: configuration, TLS identity, telemetry, health and an orderly end.
//!
//! This crate must never know what a cluster is made of: it knows files, certificates and signals,
//! not nodes, resources or operations.

pub mod configuration;
pub mod health;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
