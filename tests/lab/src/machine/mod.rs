//! A node seen from the host: its disks, the process that is its kernel, and the keeper that ends it.

pub mod command_line;
pub mod disks;
pub mod keeper;
pub mod memory;
pub mod node;
pub mod preload;
