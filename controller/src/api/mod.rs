//! The doors of a controller: gRPC services, who may use them, and how a call finds the leader.

pub mod authorization;
pub mod caller;
pub mod calls;
pub mod context;
pub mod door;
pub mod entrance;
pub mod error;
pub mod grpc;
pub mod metrics;
pub mod pages;
pub mod random;
pub mod read_mask;
pub mod relay;
pub mod server;
pub mod transport;
pub mod view;
pub mod watch_filter;
