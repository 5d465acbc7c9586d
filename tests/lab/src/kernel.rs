//! Finds the kernel and the tools that nodes run: the host's own, or those unpacked for an ordinary user.

use std::path::{Path, PathBuf};

use crate::directories;
use crate::error::LabError;

const MODULES: &str = "usr/lib/uml/modules";
/// What a node cannot do without, below a root.
const TOOLS: [(&str, &str); 9] = [
    ("usr/bin/linux.uml", "user-mode-linux"),
    ("usr/sbin/drbdadm", "drbd-utils"),
    ("usr/sbin/lvm", "lvm2"),
    ("usr/bin/kmod", "kmod"),
    ("usr/bin/ip", "iproute2"),
    ("usr/sbin/thin_check", "thin-provisioning-tools"),
    ("usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("usr/bin/busybox", "busybox"),
    ("usr/bin/ps", "procps"),
];

/// A kernel with everything that its nodes need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The program that is the kernel.
    pub program: PathBuf,
    /// The host's path of its modules.
    pub modules: PathBuf,
    /// The directory of unpacked packages, when they are not in the host's root.
    pub packages: Option<PathBuf>,
}

impl Kernel {
    /// Looks in the unpacked packages first, then in the host's root: who unpacked some wants to use them.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] with the missing packages and the command that gets them.
    pub fn find() -> Result<Self, LabError> {
        Self::find_in(Path::new("/"), &directories::packages())
    }

    fn find_in(root: &Path, packages: &Path) -> Result<Self, LabError> {
        let unpacked = packages.is_dir().then_some(packages);
        let places = [unpacked, Some(root)];
        let place_of = |path: &str| {
            places.iter().flatten().find(|place| place.join(path).symlink_metadata().is_ok()).copied()
        };
        let missing: Vec<_> =
            TOOLS.iter().filter(|(path, _)| place_of(path).is_none()).map(|(_, package)| *package).collect();
        let Some(place) = place_of(TOOLS[0].0).filter(|_| missing.is_empty()) else {
            return Err(LabError::Unavailable {
                reason: format!("Debian packages are missing: {}", missing.join(" ")),
                remedy:
                    "get them with `hawser-lab setup` (installs them as root, unpacks them below the build's \
                         target directory otherwise)"
                        .to_owned(),
            });
        };
        let modules = newest_directory(&place.join(MODULES)).ok_or_else(|| LabError::Unavailable {
            reason: format!("{} holds no modules for the kernel", place.join(MODULES).display()),
            remedy: "install the package user-mode-linux again, or run `hawser-lab setup`".to_owned(),
        })?;
        Ok(Self { program: place.join(TOOLS[0].0), modules, packages: unpacked.map(Path::to_owned) })
    }

    /// Where a tool lies on the host: its own, which finds its libraries, before an unpacked one.
    pub fn tool(&self, path: &str) -> PathBuf {
        let installed = Path::new("/").join(path);
        match &self.packages {
            Some(packages) if !installed.exists() => packages.join(path),
            _ => installed,
        }
    }
}

fn newest_directory(parent: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(parent).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fill(root: &Path, paths: &[&str]) {
        for path in paths {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
    }

    #[test]
    fn missing_packages_are_named_with_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        fill(
            root.path(),
            &[
                "usr/sbin/lvm",
                "usr/bin/kmod",
                "usr/bin/ip",
                "usr/sbin/mkfs.ext4",
                "usr/bin/ps",
                "usr/bin/busybox",
            ],
        );
        let error = Kernel::find_in(root.path(), &root.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("user-mode-linux drbd-utils thin-provisioning-tools"), "{error}");
        assert!(error.contains("hawser-lab setup"), "{error}");
    }

    #[test]
    fn unpacked_packages_complete_what_the_host_has() {
        let root = tempfile::tempdir().unwrap();
        let packages = tempfile::tempdir().unwrap();
        fill(
            root.path(),
            &["usr/bin/kmod", "usr/bin/ip", "usr/sbin/mkfs.ext4", "usr/bin/ps", "usr/bin/busybox"],
        );
        let rest = ["usr/bin/linux.uml", "usr/sbin/drbdadm", "usr/sbin/lvm", "usr/sbin/thin_check"];
        fill(packages.path(), &rest);
        fill(packages.path(), &["usr/lib/uml/modules/6.1.170/x", "usr/lib/uml/modules/6.1.176/x"]);
        let kernel = Kernel::find_in(root.path(), packages.path()).unwrap();
        assert_eq!(kernel.program, packages.path().join("usr/bin/linux.uml"));
        assert_eq!(kernel.modules, packages.path().join("usr/lib/uml/modules/6.1.176"));
        assert_eq!(kernel.packages.as_deref(), Some(packages.path()));
    }
}
