//! The files of a node's /etc that differ from the host's, so that the tools work there as typed by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use nix::mount::MsFlags;

use super::configuration::GuestConfiguration;
use super::root::{self, mount_one};
use crate::network::addresses::{HOST, cluster};

/// LVM without udev and without the host's configuration: only the map of the node's own data disk is a device.
const LVM: &str = r#"devices {
    dir = "/dev"
    scan = [ "/dev" ]
    use_devicesfile = 0
    obtain_device_list_from_udev = 0
    external_device_info_source = "none"
    global_filter = [ "a|^/dev/ubd[d-h]$|", "a|^/dev/mapper/disk-|", "r|.*|" ]
    issue_discards = 1
    md_component_detection = 0
    multipath_component_detection = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
    verify_udev_operations = 0
    monitoring = 0
}
global {
    use_lvmpolld = 0
    use_lvmlockd = 0
    notify_dbus = 0
    event_activation = 0
    locking_dir = "/run/lock/lvm"
}
"#;

const DRBD_GLOBAL: &str = "global { usage-count no; }\ncommon { }\n";
const DRBD_INCLUDE: &str = "include \"/var/lib/hawser/satellite/drbd.d/*.res\";\n";
const PROGRAMS: [&str; 5] = ["hawser", "hawser-controller", "hawser-satellite", "hawser-csi", "hawser-lab"];

/// Writes them into the node's own root.
///
/// # Errors
/// Which file, and the system's error.
pub(super) fn write(configuration: &GuestConfiguration) -> anyhow::Result<()> {
    let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n{HOST} host\n");
    for (name, number) in &configuration.nodes {
        hosts.push_str(&format!("{} {name}\n", cluster(*number)));
    }
    for directory in ["/etc/lvm/archive", "/etc/lvm/backup"] {
        fs::create_dir_all(directory)?;
        mount_one("tmpfs", directory, "tmpfs", MsFlags::empty(), Some("mode=700"))?;
    }
    fs::create_dir_all("/etc/drbd.d")?;
    // Hides the host's own resources.
    mount_one("tmpfs", "/etc/drbd.d", "tmpfs", MsFlags::empty(), Some("mode=755"))?;
    for (path, text) in [
        ("/etc/hostname", configuration.name.as_str()),
        ("/etc/hosts", hosts.as_str()),
        ("/etc/resolv.conf", ""),
        ("/etc/lvm/lvm.conf", LVM),
        ("/etc/drbd.conf", "include \"drbd.d/global_common.conf\";\ninclude \"drbd.d/*.res\";\n"),
        ("/etc/drbd.d/global_common.conf", DRBD_GLOBAL),
        ("/etc/drbd.d/hawser.res", DRBD_INCLUDE),
    ] {
        // The host may have a link there, to a place that must not be written to.
        let _ = fs::remove_file(path);
        fs::write(path, text).with_context(|| format!("cannot write {path}"))?;
    }
    fs::create_dir_all("/usr/local/sbin")?;
    for program in PROGRAMS {
        let target = Path::new(root::PROGRAMS).join(program);
        let link = Path::new("/usr/local/sbin").join(program);
        let _ = fs::remove_file(&link);
        symlink(target, link)?;
    }
    Ok(())
}
