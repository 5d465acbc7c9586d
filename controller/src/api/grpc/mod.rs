//! The gRPC services, one file per noun. Each checks its request, asks the state or proposes, and answers; none
//! decides what the cluster may do.

pub mod arbiter;
pub mod attachments;
mod backup;
pub mod cluster;
pub mod nodes;
pub mod operations;
mod options;
mod patience;
pub mod pools;
pub mod replicas;
pub mod resource_groups;
pub mod resources;
pub mod sessions;
mod unknown;
pub mod watch;
