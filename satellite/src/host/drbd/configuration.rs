//! Writes DRBD's configuration: the text of a `.res` file, and the same options as arguments of `drbdsetup`.
//!
//! Pure. It must never write a word that DRBD's parser could take for anything but a value, and never lets
//! an option of the administrator weaken what the arbiter and the connections rest on.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, path::PathBuf};

use hawser_plan::step::{Configuration, DrbdPeer, Generation, Provider};

use crate::host::{HostError, devices::SECTOR};

/// What the first line of a file holds before the fingerprint.
pub const HEADER: &str = "# Written by Hawser; changes are overwritten. Fingerprint ";

/// What follows the fingerprint until the kernel follows the file, and as many spaces afterwards.
const PENDING: &str = " pending";

/// Set by Hawser alone: replication, arbitration and authentication rest on them.
const RESERVED: [&str; 12] = [
    "protocol",
    "fencing",
    "size",
    "on-io-error",
    "on-no-data-accessible",
    "allow-two-primaries",
    "cram-hmac-alg",
    "shared-secret",
    "after-sb-0pri",
    "after-sb-1pri",
    "after-sb-2pri",
    "rr-conflict",
];

/// What the node adds to a configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Command line of the fence-peer handler.
    pub fence_peer_handler: String,
    /// Whether the kernel can authenticate connections.
    pub authenticate: bool,
}

/// The options of one resource by section, the product's own and the administrator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Of the resource.
    pub resource: BTreeMap<String, String>,
    /// Of its connections.
    pub net: BTreeMap<String, String>,
    /// Of its disks.
    pub disk: BTreeMap<String, String>,
}

/// The options that a resource runs with.
///
/// # Errors
/// An option is reserved for Hawser, or no word that DRBD takes.
pub fn options(configuration: &Configuration, surroundings: &Surroundings) -> Result<Options, HostError> {
    let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    // Intervals in seconds, time-outs in tenths; `timeout` stays below both intervals. A cut is noticed
    // within 2.5 s.
    let mut net = own(&[("ping-int", "2"), ("connect-int", "2"), ("timeout", "15"), ("ping-timeout", "5")]);
    let mut disk =
        own(&[("resync-rate", "100M"), ("c-fill-target", "1M"), ("c-max-rate", "1G"), ("c-min-rate", "20M")]);
    let mut resource = BTreeMap::new();
    for (section, asked, into) in [
        ("resource", &configuration.resource_options, &mut resource),
        ("net", &configuration.net_options, &mut net),
        ("disk", &configuration.disk_options, &mut disk),
    ] {
        for (name, value) in asked {
            let object = || format!("{section} option {name} of DRBD resource {}", configuration.drbd_name);
            if RESERVED.contains(&name.as_str()) {
                return Err(HostError::refused(object(), "is set by Hawser alone; remove it"));
            }
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            {
                return Err(HostError::refused(object(), "is no name of an option"));
            }
            quoted(value)
                .ok_or_else(|| HostError::refused(object(), "has a value that cannot be written"))?;
            into.insert(name.clone(), value.clone());
        }
    }
    resource.extend(own(&[("on-no-data-accessible", "suspend-io")]));
    net.extend(own(&[
        ("protocol", "C"),
        ("after-sb-0pri", "disconnect"),
        ("after-sb-1pri", "disconnect"),
        ("after-sb-2pri", "disconnect"),
    ]));
    if surroundings.authenticate && !configuration.shared_secret.0.is_empty() {
        net.extend(own(&[("cram-hmac-alg", "sha1"), ("shared-secret", &configuration.shared_secret.0)]));
    }
    disk.extend(own(&[("on-io-error", "detach")]));
    if configuration.ask_arbiter {
        disk.extend(own(&[("fencing", "resource-and-stonith")]));
    }
    let on_thin = configuration
        .volumes
        .iter()
        .filter_map(|volume| volume.backing.as_ref())
        .any(|backing| matches!(backing.provider, Provider::LvmThin { .. }));
    if on_thin {
        // Blocks that read zero are sent as discards, so that a resync fills no thin pool.
        disk.entry("rs-discard-granularity".to_owned()).or_insert_with(|| "65536".to_owned());
    }
    Ok(Options { resource, net, disk })
}

/// The text of the `.res` file, as it is until the kernel follows it. `device` names the device of a backing volume.
///
/// # Errors
/// Something in it cannot be written, or this node is not among the peers.
pub fn render(
    configuration: &Configuration,
    surroundings: &Surroundings,
    device: impl Fn(&hawser_plan::step::BackingVolume) -> PathBuf,
) -> Result<String, HostError> {
    let name = &configuration.drbd_name;
    let options = options(configuration, surroundings)?;
    own_peer(configuration)?;
    let mut text = format!("{HEADER}{:016x}{PENDING}\n", configuration.fingerprint());
    let quote = |word: &str| {
        quoted(word).ok_or_else(|| {
            HostError::refused(format!("DRBD resource {name}"), format!("{word:?} cannot be written"))
        })
    };
    let _ = writeln!(text, "resource {} {{", quote(name)?);
    for (section, pairs) in [("options", &options.resource), ("net", &options.net), ("disk", &options.disk)] {
        if !pairs.is_empty() {
            let _ = writeln!(text, "    {section} {{");
            for (option, value) in pairs {
                let _ = writeln!(text, "        {option} {};", quote(value)?);
            }
            text.push_str("    }\n");
        }
    }
    if configuration.ask_arbiter {
        let handler = quote(&surroundings.fence_peer_handler)?;
        let _ = writeln!(text, "    handlers {{\n        fence-peer {handler};\n    }}");
    }
    for peer in &configuration.peers {
        let here = peer.node == configuration.node;
        let _ = writeln!(text, "    on {} {{", quote(&peer.uname)?);
        if configuration.generation == Generation::V9 {
            let _ = writeln!(text, "        node-id {};", peer.node_id);
        }
        let _ = writeln!(text, "        address {};", address(peer));
        for volume in &configuration.volumes {
            let disk = match &volume.backing {
                _ if !peer.diskful => "none".to_owned(),
                Some(backing) if here => quote(&device(backing).display().to_string())?,
                // Where it lies on the peer is the peer's business.
                _ => "\"/dev/drbd/this/is/not/used\"".to_owned(),
            };
            let _ = writeln!(text, "        volume {} {{", volume.number);
            let _ = writeln!(text, "            device minor {};", volume.minor);
            let _ = writeln!(text, "            disk {disk};\n            meta-disk internal;");
            if peer.diskful {
                let _ = writeln!(
                    text,
                    "            disk {{\n                size {}s;\n            }}",
                    volume.size_bytes / SECTOR
                );
            }
            text.push_str("        }\n");
        }
        text.push_str("    }\n");
    }
    text.push_str("}\n");
    Ok(text)
}

/// The replica of the node that the configuration is written for.
///
/// # Errors
/// It is not among the peers.
pub fn own_peer(configuration: &Configuration) -> Result<&DrbdPeer, HostError> {
    find_peer(configuration, &configuration.node)
}

/// The replica of a node.
///
/// # Errors
/// It is not among the peers.
pub fn find_peer<'a>(configuration: &'a Configuration, node: &str) -> Result<&'a DrbdPeer, HostError> {
    configuration.peers.iter().find(|peer| peer.node == node).ok_or_else(|| {
        HostError::refused(
            format!("DRBD resource {}", configuration.drbd_name),
            format!("has no replica on node {node}"),
        )
    })
}

/// A replica's address as the file has it: "ipv4 10.77.0.1:7000".
pub fn address(peer: &DrbdPeer) -> String {
    match peer.ip {
        IpAddr::V4(ip) => format!("ipv4 {ip}:{}", peer.port),
        IpAddr::V6(ip) => format!("ipv6 [{ip}]:{}", peer.port),
    }
}

/// A replica's address as an argument: "ipv4:10.77.0.1:7000".
pub fn address_argument(peer: &DrbdPeer) -> String {
    address(peer).replacen(' ', ":", 1)
}

/// Options as arguments of `drbdsetup`.
pub fn arguments(options: &BTreeMap<String, String>) -> Vec<String> {
    options.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// The first line of the file in place of the rendered one, of the same length, once the kernel follows it.
pub fn followed_header(configuration: &Configuration) -> String {
    format!("{HEADER}{:016x}{:width$}\n", configuration.fingerprint(), "", width = PENDING.len())
}

/// The fingerprint in the text of a file that the kernel follows; `None` where that is not certain, or Hawser has not
/// written it.
pub fn fingerprint_in(text: &str) -> Option<u64> {
    u64::from_str_radix(text.lines().next()?.strip_prefix(HEADER)?.trim(), 16).ok()
}

/// A word as DRBD's parser reads it back; `None` if there is no such way.
fn quoted(word: &str) -> Option<String> {
    let harmless = |character: char| (' '..='~').contains(&character) && !matches!(character, '"' | '\\');
    (!word.is_empty() && word.len() <= 255 && word.chars().all(harmless)).then(|| format!("\"{word}\""))
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
