//! Addresses of the lab's networks. They must not depend on anything but a node's number, so that every node,
//! test and configuration file knows them beforehand.

use std::net::Ipv4Addr;

/// Size of the largest packet on both networks, in bytes.
pub const PACKET_SIZE: usize = 9000;
/// Port of the guest agent, on the management address only.
pub const AGENT_PORT: u16 = 6479;
/// Port of the host's end of a management link at which a booted node announces itself.
pub const READY_PORT: u16 = 6478;
/// The host's address on every management link.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);

/// A node's address on the cluster network.
pub fn cluster(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// A node's address on its management link.
pub fn management(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, number)
}

/// The locally administered hardware address of a node's interface; `network` is 77 or 78.
pub fn hardware(network: u8, number: u8) -> String {
    format!("02:00:0a:{network:02x}:00:{number:02x}")
}
