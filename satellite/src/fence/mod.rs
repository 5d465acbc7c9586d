//! The fence-peer handler: what DRBD asks before a Primary goes on without its peer.
//!
//! The kernel starts [`helper`], which asks the satellite's [`socket`]; [`desk`] is where the answer meets
//! the workers. Nothing here may run a command on the resource: the kernel may hold its lock meanwhile.

pub mod desk;
pub mod helper;
pub mod question;
pub mod socket;
