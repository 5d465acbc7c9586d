//! The command line of a node's kernel. Paths on it are relative to the node's directory where they can be:
//! the kernel takes 2048 characters in all.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

use crate::guest::configuration::VARIABLE;
use crate::network::addresses::{PACKET_SIZE, hardware};

/// File of the data disk, in the node's directory.
pub const DATA_DISK: &str = "data.img";
/// File of the state disk, in the node's directory.
pub const STATE_DISK: &str = "state.img";
/// Where the kernel keeps its own runtime files, in the node's directory.
pub const KERNEL_FILES: &str = "uml";
/// The node's configuration, in the node's directory.
pub const CONFIGURATION: &str = "guest.json";

/// The arguments for a node's kernel.
pub fn arguments(
    directory: &Path,
    init: &Path,
    name: &str,
    number: u8,
    memory_mib: u32,
    network: [RawFd; 2],
) -> Vec<OsString> {
    let nic = |index: usize, subnet: u8, descriptor: RawFd| {
        let address = hardware(subnet, number);
        format!("vec{index}:transport=fd,fd={descriptor},depth=128,gro=1,mtu={PACKET_SIZE},mac={address}")
    };
    let mut configuration = OsString::from(format!("{VARIABLE}="));
    configuration.push(directory.join(CONFIGURATION));
    let mut start = OsString::from("init=");
    start.push(init);
    vec![
        "rootfstype=hostfs".into(),
        "rootflags=/".into(),
        "ro".into(),
        format!("mem={memory_mib}M").into(),
        start,
        configuration,
        format!("umid={name}").into(),
        format!("uml_dir={KERNEL_FILES}/").into(),
        "con=null".into(),
        "con0=null,fd:1".into(),
        format!("ubdb={DATA_DISK}").into(),
        format!("ubdc={STATE_DISK}").into(),
        nic(0, 77, network[0]).into(),
        nic(1, 78, network[1]).into(),
        "random.trust_cpu=on".into(),
        "panic=-1".into(),
    ]
}
