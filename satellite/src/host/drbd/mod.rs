//! DRBD: what its configuration says, what lies in its metadata, what the kernel reports, and the driver of
//! each generation. Nothing here decides which step is due.
//!
//! * [`configuration`]: the text of a `.res` file, and the options. * `files`: the files themselves.
//! * [`metadata`]: the superblock and how it is made. * [`events2`]: the kernel's state. * [`meetings`]: whether connections
//!   have led to a peer. * [`driver84`]: DRBD 8.4's commands.

pub mod configuration;
pub mod driver84;
pub mod events2;
mod files;
pub mod meetings;
pub mod metadata;
mod shown;

use std::path::Path;

use async_trait::async_trait;
use hawser_plan::step::{Configuration, Connection, Metadata};

use self::events2::KernelState;
use super::{Deadline, HostError};

/// The verbs of DRBD, for one generation.
#[async_trait]
pub(crate) trait DrbdDriver: Send + Sync {
    /// Every resource in the kernel, asked now.
    async fn state(&self, deadline: &Deadline) -> Result<KernelState, HostError>;

    /// Metadata is on `device` as the step says. Never over anything that was not found blank.
    async fn create_metadata(
        &self,
        metadata: &Metadata,
        device: &Path,
        deadline: &Deadline,
    ) -> Result<(), HostError>;

    /// The `.res` file says this. Until the kernel follows it, it has no fingerprint that equals anything.
    async fn write_configuration(
        &self,
        configuration: &Configuration,
        deadline: &Deadline,
    ) -> Result<(), HostError>;

    /// The `.res` file is gone.
    fn remove_configuration(&self, drbd_name: &str) -> Result<(), HostError>;

    /// The fingerprint in the `.res` file if the kernel follows it, a number that equals none if it may not; `None` if
    /// there is no file.
    fn fingerprint(&self, drbd_name: &str) -> Result<Option<u64>, HostError>;

    /// The resource and its minors are in the kernel; disks and connections as asked. One that was not there before
    /// follows its file.
    async fn bring_up(
        &self,
        configuration: &Configuration,
        attach: bool,
        connect: bool,
        deadline: &Deadline,
    ) -> Result<(), HostError>;

    /// The disks are attached.
    async fn attach(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError>;

    /// The connection is trying or connected.
    async fn connect(&self, connection: &Connection, deadline: &Deadline) -> Result<(), HostError>;

    /// This end of the connection is down; the other side sees a broken link.
    async fn turn_away(&self, connection: &Connection, deadline: &Deadline) -> Result<(), HostError>;

    /// The running resource follows its file.
    async fn adjust(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError>;

    /// The resource is Primary.
    async fn promote(&self, drbd_name: &str, minors: &[u32], deadline: &Deadline) -> Result<(), HostError>;

    /// The resource is Secondary.
    async fn demote(&self, drbd_name: &str, minors: &[u32], deadline: &Deadline) -> Result<(), HostError>;

    /// The disk is detached by force and the kernel says `Diskless`.
    async fn detach_force(&self, drbd_name: &str, minor: u32, deadline: &Deadline) -> Result<(), HostError>;

    /// I/O flows again.
    async fn resume_io(&self, minor: u32, deadline: &Deadline) -> Result<(), HostError>;

    /// The resource is not in the kernel any more.
    async fn take_down(&self, drbd_name: &str, deadline: &Deadline) -> Result<(), HostError>;
}
