//! What may be a name, an address or an option, wherever a person or a program may state one.
//!
//! Whatever passes here goes unquoted into DRBD's configuration, LVM's argument lists and file names,
//! so every rule says what is allowed, never what is forbidden. It must never repair a value.

use std::net::{IpAddr, SocketAddr};

/// The longest name of a node, pool, group or resource: a DNS label's length. A resource's names on
/// the nodes, `<name>.<incarnation>-<volume>`, then stay within LVM's and DRBD's 127 characters.
pub const LONGEST_NAME: usize = 63;

/// The longest name that device-mapper takes (`DM_NAME_LEN` counts the closing zero).
const LONGEST_DEVICE_MAPPER_NAME: usize = 127;

/// A field that holds what it may not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidField {
    /// The field in the spelling of the API, e.g. `volume_sizes[0]`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl InvalidField {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Result of a check.
pub type Checked<T = ()> = Result<T, InvalidField>;

/// A name of a node: a DNS label, for it stands in certificates and in DRBD's configuration.
pub fn node_name(field: &str, value: &str) -> Checked {
    label(field, "a node name", value)
}

/// A name of a controller.
pub fn member_name(field: &str, value: &str) -> Checked {
    label(field, "a controller name", value)
}

/// A name of a cluster.
pub fn cluster_name(field: &str, value: &str) -> Checked {
    label(field, "a cluster name", value)
}

/// A name of a storage pool.
pub fn pool_name(field: &str, value: &str) -> Checked {
    label(field, "a pool name", value)
}

/// A name of a resource group.
pub fn group_name(field: &str, value: &str) -> Checked {
    label(field, "a group name", value)
}

/// A name of a resource.
pub fn resource_name(field: &str, value: &str) -> Checked {
    label(field, "a resource name", value)
}

/// A purpose of a node's address, e.g. `replication`.
pub fn address_name(field: &str, value: &str) -> Checked {
    label(field, "a name of an address", value)
}

fn label(field: &str, what: &str, value: &str) -> Checked {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    let valid = bytes.len() <= LONGEST_NAME
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if valid {
        return Ok(());
    }
    Err(InvalidField::new(
        field,
        format!(
            "{} is not {what}: use 1 to {LONGEST_NAME} lowercase letters, digits and hyphens, with a letter or \
             digit at both ends",
            shown(value)
        ),
    ))
}

/// A name of an LVM volume group.
pub fn volume_group(field: &str, value: &str) -> Checked {
    lvm_name(field, "a volume group", value)
}

/// A name of an LVM logical volume.
pub fn logical_volume(field: &str, value: &str) -> Checked {
    const RESERVED_STARTS: [&str; 2] = ["snapshot", "pvmove"];
    const RESERVED_PARTS: [&str; 12] = [
        "_cdata", "_cmeta", "_corig", "_mlog", "_mimage", "_pmspare", "_rimage", "_rmeta", "_tdata",
        "_tmeta", "_vorigin", "_vdata",
    ];
    lvm_name(field, "a logical volume", value)?;
    let reserved = RESERVED_STARTS.iter().any(|start| value.starts_with(start))
        || RESERVED_PARTS.iter().any(|part| value.contains(part));
    if reserved {
        return Err(InvalidField::new(
            field,
            format!("{} is a name that LVM keeps for itself", shown(value)),
        ));
    }
    Ok(())
}

fn lvm_name(field: &str, what: &str, value: &str) -> Checked {
    let valid = !matches!(value, "" | "." | "..")
        && value.len() <= LONGEST_DEVICE_MAPPER_NAME
        && !value.starts_with('-')
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte));
    if valid {
        return Ok(());
    }
    Err(InvalidField::new(
        field,
        format!(
            "{} is not the name of {what}: use 1 to {LONGEST_DEVICE_MAPPER_NAME} letters, digits and any of + _ . -, \
             with no hyphen in front",
            shown(value)
        ),
    ))
}

/// Whether the device of a logical volume gets a name that device-mapper takes: `VG-LV`, every hyphen
/// within either name doubled.
pub fn fits_device_mapper(volume_group: &str, logical_volume: &str) -> bool {
    let doubled = |name: &str| name.len() + name.matches('-').count();
    doubled(volume_group) + 1 + doubled(logical_volume) <= LONGEST_DEVICE_MAPPER_NAME
}

/// A ZFS dataset, `pool/child/…`.
pub fn dataset(field: &str, value: &str) -> Checked {
    let component = |part: &str| {
        part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte))
    };
    if value.len() <= 128 && value.split('/').all(component) {
        return Ok(());
    }
    Err(InvalidField::new(
        field,
        format!(
            "{} is not a ZFS dataset: use parts of letters, digits and any of _ . - : that begin with a letter or \
             digit, joined by slashes, at most 128 characters",
            shown(value)
        ),
    ))
}

/// A directory: an absolute path without empty, `.` or `..` parts.
pub fn directory(field: &str, value: &str) -> Checked {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-@".contains(&byte))
    };
    if value.len() <= 1024 && value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part)) {
        return Ok(());
    }
    Err(InvalidField::new(
        field,
        format!(
            "{} is not an absolute path of a directory: use parts of letters, digits and any of + _ . - @, none of \
             them . or .., and no slash at the end",
            shown(value)
        ),
    ))
}

/// A DRBD option: its key, and a value that can end neither its statement nor its section.
pub fn drbd_option(field: &str, key: &str, value: &str) -> Checked {
    let key_is_valid = !key.is_empty()
        && key.len() <= LONGEST_NAME
        && key.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !key_is_valid {
        return Err(InvalidField::new(
            field,
            format!("{} is not a DRBD option: use lowercase letters, digits and hyphens", shown(key)),
        ));
    }
    let value_is_valid = !value.is_empty()
        && value.len() <= 128
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-/:%,".contains(&byte));
    if !value_is_valid {
        return Err(InvalidField::new(
            format!("{field}.{key}"),
            format!(
                "{} is not a value of a DRBD option: use 1 to 128 letters, digits and any of + _ . - / : % ,",
                shown(value)
            ),
        ));
    }
    Ok(())
}

/// A secret that DRBD's connections authenticate with: at most 64 characters (DRBD's
/// `SHARED_SECRET_MAX`).
pub fn shared_secret(field: &str, value: &str) -> Checked {
    let valid = (16..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid {
        return Ok(());
    }
    // The value is not shown: it may be most of a secret.
    Err(InvalidField::new(field, "a shared secret has 16 to 64 letters and digits"))
}

/// What `uname -n` prints: letters, digits, dots, hyphens and underscores, at most 64 characters.
pub fn uname(field: &str, value: &str) -> Checked {
    let valid = value.len() <= 64
        && value.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if valid {
        return Ok(());
    }
    Err(InvalidField::new(field, format!("{} is not a host's name as `uname -n` prints it", shown(value))))
}

/// An IPv4 or IPv6 literal that one host can have.
pub fn ip(field: &str, value: &str) -> Checked<IpAddr> {
    let ip: IpAddr = value.parse().map_err(|_| {
        InvalidField::new(
            field,
            format!("{} is not an IP address: use a literal like 10.0.0.1 or fd00::1", shown(value)),
        )
    })?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(InvalidField::new(field, format!("{value} is not the address of one host")));
    }
    Ok(ip)
}

/// `host:port` of an endpoint; the host is a DNS name, an IPv4 literal or an IPv6 literal in brackets.
pub fn endpoint(field: &str, value: &str) -> Checked {
    let invalid = || {
        InvalidField::new(
            field,
            format!(
                "{} is not host:port: use a form like node1:6470, 10.0.0.1:6470 or [fd00::1]:6470",
                shown(value)
            ),
        )
    };
    // A scope is a number of one host's, and means another network on the next.
    if let Ok(address) = value.parse::<SocketAddr>()
        && !value.contains('%')
    {
        return if address.port() != 0 && !address.ip().is_multicast() { Ok(()) } else { Err(invalid()) };
    }
    let (host, port) = value.rsplit_once(':').ok_or_else(invalid)?;
    let port_is_valid =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_is_valid = host.len() <= 253
        && host.split('.').all(|part| label(field, "a host", part).is_ok())
        // A last part of digits only is a mistyped IPv4 literal, never a host.
        && host.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| !byte.is_ascii_digit()));
    if port_is_valid && host_is_valid { Ok(()) } else { Err(invalid()) }
}

/// A refused value as an error may show it: escaped, and cut if it is long.
pub fn shown(value: &str) -> String {
    const LONGEST_SHOWN: usize = 80;
    match value.char_indices().nth(LONGEST_SHOWN) {
        Some((cut, _)) => format!("{:?}…", &value[..cut]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    type Check = fn(&str, &str) -> Checked;

    #[test]
    fn names_are_accepted_or_refused_with_their_field() {
        let longest = "a".repeat(LONGEST_NAME);
        let too_long = "a".repeat(LONGEST_NAME + 1);
        let cases: &[(Check, &[&str], &[&str])] = &[
            (
                resource_name,
                &["a", "7", "web-1", "pvc-0a1b", &longest],
                &["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a b", "ä", "a\n", "a\0", &too_long],
            ),
            (node_name, &["n1"], &["n1.example", "N1", "..", "n1\""]),
            (
                volume_group,
                &["vg0", "VG_0", "a.b+c-d"],
                &["", ".", "..", "-vg", "vg/x", "vg 0", "vg\n", "v{", "@tag"],
            ),
            (
                logical_volume,
                &["thin", "data_1"],
                &["snapshot1", "pvmove0", "x_tdata", "x_mlog", "-x", "a/b"],
            ),
            (
                dataset,
                &["tank", "tank/vm-1"],
                &["", "/tank", "tank/", "tank//a", "tank/..", "tank@snap", "-tank"],
            ),
            (
                directory,
                &["/srv", "/srv/hawser-1"],
                &["", "/", "srv", "/srv/", "/srv/../etc", "/a//b", "/a b", "/a\n"],
            ),
            (uname, &["node1", "Node_1.example.org"], &["", "-n", "a b", "a\"", "a;b"]),
            (
                shared_secret,
                &["0123456789abcdef"],
                &["", "short", "0123456789abcde\"", "0123456789abcdef;", &"x".repeat(65)],
            ),
            (
                endpoint,
                &["n1:6470", "10.0.0.1:1", "[fd00::1]:65535", "a.example.org:6470"],
                &[
                    "",
                    "n1",
                    "n1:",
                    "n1:0",
                    "n1:65536",
                    "n1:+1",
                    ":6470",
                    "fd00::1:6470",
                    "10.0.0:1",
                    "10.0.0.256:1",
                    "n_1:6470",
                    "n1:6470 ",
                    "[fd00::1]:0",
                    "[fe80::1%2]:6470",
                    "http://n1:1",
                ],
            ),
        ];
        for (check, valid, invalid) in cases {
            for value in *valid {
                assert_eq!(check("the_field", value), Ok(()), "{value:?}");
            }
            for value in *invalid {
                let error = check("the_field", value).expect_err(value);
                assert_eq!(error.field, "the_field");
                assert!(!error.message.is_empty());
            }
        }
    }

    #[test]
    fn an_option_cannot_end_its_statement() {
        for (key, value) in
            [("ping-int", "10"), ("resync-rate", "100M"), ("verify-alg", "crc32c"), ("al-extents", "1237")]
        {
            assert_eq!(drbd_option("options.net", key, value), Ok(()));
        }
        for value in ["", "1;", "1 }", "\"", "'", "a\nb", "{", "#", "\\", "ä", " ", &"1".repeat(129)] {
            let error = drbd_option("options.net", "ping-int", value).expect_err(value);
            assert_eq!(error.field, "options.net.ping-int");
        }
        for key in ["", "Ping", "a b", "a;", "1a", "-a", "a{", "a\n"] {
            assert_eq!(drbd_option("options.net", key, "1").expect_err(key).field, "options.net");
        }
    }

    #[test]
    fn an_address_belongs_to_one_host() {
        for value in ["10.0.0.1", "127.0.0.1", "fd00::1"] {
            assert!(ip("ip", value).is_ok(), "{value}");
        }
        for value in
            ["", "10.0.0.1:1", "10.0.0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "n1", "010.0.0.1", "[::1]"]
        {
            assert_eq!(ip("ip", value).expect_err(value).field, "ip");
        }
    }

    #[test]
    fn a_logical_volume_counts_its_hyphens_twice() {
        assert!(fits_device_mapper("vg", &"a".repeat(124)));
        assert!(!fits_device_mapper("vg", &"a".repeat(125)));
        assert!(fits_device_mapper("vg", &"-".repeat(62)));
        assert!(!fits_device_mapper("vg", &"-".repeat(63)));
    }

    #[test]
    fn what_is_shown_is_escaped_and_short() {
        assert_eq!(shown("a\u{1b}[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert!(shown(&"ä".repeat(10_000)).chars().count() < 100);
    }

    #[test]
    fn hostile_names_that_pass_need_no_quotes_anywhere() {
        let checks: [Check; 13] = [
            node_name,
            member_name,
            cluster_name,
            pool_name,
            group_name,
            resource_name,
            address_name,
            volume_group,
            logical_volume,
            dataset,
            directory,
            uname,
            endpoint,
        ];
        let samples =
            ["web-1", "vg0", "tank/vm-1", "/srv/hawser-1", "n1.example.org", "[fd00::1]:6470", "n1:6470"];
        check(&texts(&samples, &["..", "/", "@", ":0", "[", "::", "%1"]), |value| {
            for (at, check) in checks.iter().enumerate() {
                match check("the_field", &value) {
                    Ok(()) => assert!(
                        value
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+/:[]@".contains(&byte))
                            && !value.starts_with('-')
                            && value.len() < 4096,
                        "check {at} passes {value:?}"
                    ),
                    Err(error) => {
                        assert!(error.field == "the_field" && error.message.len() < 1000, "{error}")
                    }
                }
            }
        });
    }

    #[test]
    fn hostile_addresses_and_options() {
        check(&texts(&["10.0.0.1", "fd00::1", "100M", "crc32c"], &["::", "%eth0", ";", "255"]), |value| {
            if let Ok(ip) = ip("ip", &value) {
                assert_eq!(super::ip("ip", &ip.to_string()), Ok(ip));
            }
            if drbd_option("net", "max-buffers", &value).is_ok() {
                assert!(!value.contains([';', '{', '}', '"', '\\', '\n', ' ', '#']), "{value:?}");
            }
            if shared_secret("secret", &value)
                .is_err_and(|error| value.len() > 8 && error.message.contains(&value))
            {
                panic!("the secret is shown");
            }
        });
    }
}
