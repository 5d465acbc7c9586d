//! The doors of a controller: gRPC services, who may use them, and how a call finds the leader.

pub mod authorization;
pub mod error;
