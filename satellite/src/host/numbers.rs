//! Numbers that the kernel holds: DRBD's minors, TCP ports that are listened on, and ports that it was told to keep
//! back.
//!
//! Only reading `/sys` and `/proc`. What cannot be read counts as not held: it is advice for the controllers, and a
//! number that is held after all shows as a step that fails.

use std::{collections::BTreeSet, fs, path::Path};

/// State of a listening socket in `/proc/net/tcp` (the kernel's `TCP_LISTEN`).
const LISTEN: &str = "0A";

/// What the kernel of a node holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Minors of all DRBD devices.
    pub minors: BTreeSet<u32>,
    /// TCP ports that something listens on.
    pub listening_ports: BTreeSet<u32>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved_ports: BTreeSet<u32>,
}

/// Looks below `sys` and `proc`.
pub(super) fn find(sys: &Path, proc: &Path) -> Numbers {
    let text = |path: &str| fs::read_to_string(proc.join(path)).unwrap_or_default();
    Numbers {
        minors: minors(&sys.join("block")),
        listening_ports: ["net/tcp", "net/tcp6"].iter().flat_map(|path| listening(&text(path))).collect(),
        reserved_ports: reserved(&text("sys/net/ipv4/ip_local_reserved_ports")),
    }
}

/// DRBD names its devices by their minors.
fn minors(block: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(block).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("drbd")?.parse().ok()).collect()
}

/// Local ports of the lines whose state says that they listen: `sl local_address rem_address st …`.
fn listening(table: &str) -> BTreeSet<u32> {
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok().filter(|_| state == LISTEN).map(u32::from)
    };
    table.lines().filter_map(port).collect()
}

/// Numbers and ranges with commas in between.
fn reserved(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // Whatever the words say, there are no more ports than that.
        Some(first.parse::<u16>().ok()?..=last.parse::<u32>().ok()?.try_into().unwrap_or(u16::MAX))
    };
    list.trim().split(',').filter_map(range).flatten().map(u32::from).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_hostile::{check, texts};

    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:A429 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4315982 1 0000000024e13ad6 100 0 0 10 0
   1: 00000000:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 460 1 000000006c53f31b 100 0 0 10 0
   2: 0100007F:1B59 0100007F:A429 01 00000000:00000000 00:00000000 00000000     0        0 461 1 000000006c53f31c 20 4 30 10 -1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19123 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn what_the_kernel_holds_is_found() {
        let place = tempfile::tempdir().unwrap();
        let (sys, proc) = (place.path().join("sys"), place.path().join("proc"));
        for device in ["drbd1000", "drbd7", "sda", "drbd", "dm-0"] {
            fs::create_dir_all(sys.join("block").join(device)).unwrap();
        }
        fs::create_dir_all(proc.join("net")).unwrap();
        fs::create_dir_all(proc.join("sys/net/ipv4")).unwrap();
        fs::write(proc.join("net/tcp"), TCP).unwrap();
        fs::write(proc.join("net/tcp6"), TCP6).unwrap();
        fs::write(proc.join("sys/net/ipv4/ip_local_reserved_ports"), "7010,7020-7022\n").unwrap();

        let found = find(&sys, &proc);

        assert_eq!(found.minors, [7, 1000].into());
        assert_eq!(found.listening_ports, [22, 7000, 42_025].into(), "a connection does not listen");
        assert_eq!(found.reserved_ports, [7010, 7020, 7021, 7022].into());
    }

    #[test]
    fn what_cannot_be_read_is_not_held() {
        assert_eq!(find(Path::new("/nowhere"), Path::new("/nowhere")), Numbers::default());
        assert_eq!(listening("sl local_address\n x\n 1: nothing 0 0A\n"), BTreeSet::new());
        assert_eq!(reserved("\n"), BTreeSet::new());
    }

    #[test]
    fn no_port_is_larger_than_there_are_ports() {
        assert_eq!(listening(" 1: 00000000:12345 00000000:0000 0A\n"), BTreeSet::new());
        assert_eq!(reserved("0-4294967295").len(), 65_536);
        assert_eq!(reserved("65536-4294967295"), BTreeSet::new());
        assert_eq!(reserved("9-3"), BTreeSet::new());
    }

    #[test]
    fn hostile_tables_of_sockets() {
        check(&texts(&[TCP, TCP6], &["0A", "FFFFFFFF", ":1B58"]), |text| {
            // A port has four hexadecimal digits there.
            assert!(listening(&text).iter().all(|port| *port <= 0xffff), "{:?}", listening(&text));
        });
    }

    #[test]
    fn hostile_lists_of_reserved_ports() {
        check(&texts(&["7010,7020-7022\n", "0-65535"], &["-4294967295", "0-"]), |text| {
            assert!(reserved(&text).iter().all(|port| *port <= 0xffff));
        });
    }
}
