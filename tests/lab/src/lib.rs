//! The lab: real Linux kernels as ordinary processes, joined by a network that lives in the lab's own process.
//!
//! It boots nodes of user-mode Linux, each with a data disk, a state disk that survives a power cut, and two
//! interfaces: one on the cluster network, which can be partitioned, and one to the host alone. It needs no
//! privilege, and when its process ends, for whatever reason, nothing of it is left.
//!
//! [`Lab`] is the door for programs; the binary `hawser-lab` offers the same verbs to people.

pub mod cluster;
pub mod daemon;
pub mod directories;
pub mod disk;
pub mod error;
pub mod guest;
pub mod kernel;
pub mod lab;
pub mod machine;
pub mod network;
pub mod options;
pub mod setup;
pub mod wire;

pub use error::LabError;
pub use lab::{Finished, Lab};
pub use options::LabOptions;
