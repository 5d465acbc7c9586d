//! The lab's networks: the cluster network between the nodes and one management link per node to the host.
//! Nothing here may need a privilege or a network interface of the host.

pub mod addresses;
mod delayed;
pub mod fabric;
pub mod forward;
pub mod frame_socket;
pub mod link;
pub mod stack;
pub mod switch;
