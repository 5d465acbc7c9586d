//! The node's own root: the host's root read-only at the bottom, memory on top.
//! The host's files must never be written to through it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::configuration::GuestConfiguration;

/// Where the parts are put together; it exists on every Debian and nothing that is needed lies below it.
const WORKSHOP: &str = "/mnt";

/// Where Hawser's programs are in a node: their path on the host may be hidden there, as below `/tmp`.
pub(super) const PROGRAMS: &str = "/usr/local/lib/hawser";

/// Makes the root and moves into it.
///
/// # Errors
/// Which step failed, and the system's error.
pub(super) fn make(configuration: &GuestConfiguration) -> anyhow::Result<()> {
    mount_one("tmpfs", WORKSHOP, "tmpfs", MsFlags::empty(), Some("mode=755"))?;
    load_overlay(&configuration.modules)?;
    let workshop = Path::new(WORKSHOP);
    let mut lower = String::new();
    for (index, layer) in configuration.layers.iter().enumerate() {
        // A mount of its own for each: overlayfs refuses paths of which one lies inside the other.
        let point = workshop.join(format!("layer{index}"));
        fs::create_dir(&point)?;
        let source = layer.to_string_lossy();
        mount_one("hostfs", &point.to_string_lossy(), "hostfs", MsFlags::MS_RDONLY, Some(&source))?;
        lower.push_str(&point.to_string_lossy());
        lower.push(':');
    }
    lower.push('/');
    for name in ["upper", "work", "root"] {
        fs::create_dir(workshop.join(name))?;
    }
    let options = format!("lowerdir={lower},upperdir={WORKSHOP}/upper,workdir={WORKSHOP}/work");
    let root = workshop.join("root");
    // nosuid: where the host's files do not belong to root, a set-uid mount(8) would give its caller's rights away.
    mount_one("overlay", &root.to_string_lossy(), "overlay", MsFlags::MS_NOSUID, Some(&options))?;
    chdir(&root)?;
    fs::create_dir_all("old-root")?;
    pivot_root(".", "old-root").context("cannot move to the new root")?;
    chdir("/")?;
    mount_kernel_file_systems()?;
    umount2("/old-root", MntFlags::MNT_DETACH).context("cannot let go of the host's root")?;
    let _ = fs::remove_dir("/old-root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)
        .context("cannot share the mounts below /")?;
    for (point, source, flags) in [
        ("/host", &configuration.share, MsFlags::empty()),
        (PROGRAMS, &configuration.programs, MsFlags::MS_RDONLY),
    ] {
        fs::create_dir_all(point)?;
        mount_one("hostfs", point, "hostfs", flags, Some(&source.to_string_lossy()))?;
    }
    Ok(())
}

fn mount_kernel_file_systems() -> anyhow::Result<()> {
    mount_one("proc", "/proc", "proc", MsFlags::empty(), None)?;
    mount_one("sysfs", "/sys", "sysfs", MsFlags::empty(), None)?;
    mount_one("devtmpfs", "/dev", "devtmpfs", MsFlags::empty(), None)?;
    for directory in ["/dev/pts", "/dev/shm", "/dev/mapper"] {
        fs::create_dir_all(directory)?;
    }
    mount_one("devpts", "/dev/pts", "devpts", MsFlags::empty(), Some("mode=620,ptmxmode=666"))?;
    for (point, mode) in
        [("/dev/shm", "mode=1777"), ("/run", "mode=755"), ("/tmp", "mode=1777"), ("/root", "mode=700")]
    {
        mount_one("tmpfs", point, "tmpfs", MsFlags::empty(), Some(mode))?;
    }
    for directory in ["/run/lock", "/run/lvm", "/run/drbd", "/run/hawser"] {
        fs::create_dir_all(directory)?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (target, name) in links {
        let link = Path::new("/dev").join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(target, link)?;
        }
    }
    // Containers need it, storage does not: a kernel without it is no reason to stop.
    let _ = mount_one("cgroup2", "/sys/fs/cgroup", "cgroup2", MsFlags::empty(), None);
    Ok(())
}

/// Mounts one file system; the error names it.
pub(super) fn mount_one(
    source: &str,
    point: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> anyhow::Result<()> {
    mount(Some(source), point, Some(kind), flags, options).with_context(|| {
        format!("cannot mount {kind} {source} on {point} ({})", options.unwrap_or("no options"))
    })
}

/// Loads overlayfs, for which no tool can be asked yet: the tools may lie in a layer.
#[allow(unsafe_code)]
fn load_overlay(modules: &Path) -> anyhow::Result<()> {
    let path = modules.join("kernel/fs/overlayfs/overlay.ko");
    let file = File::open(&path).with_context(|| format!("cannot open module {}", path.display()))?;
    // SAFETY: finit_module reads an open file and a string that ends with a zero; both outlive the call, and
    // the kernel keeps neither.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    nix::errno::Errno::result(result).with_context(|| format!("cannot load module {}", path.display()))?;
    Ok(())
}
