//! What the node is and what is missing on it for Hawser's work, each with the package that has it.

use std::{fs, path::Path, time::Duration};

use hawser_plan::step::Generation;

use super::command::{CommandLine, package_of, run};

/// What the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Drawn by the kernel at boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `uname -n`: the name of this node's section in DRBD's configuration.
    pub uname: String,
    /// The DRBD module that is loaded or can be, e.g. "8.4.11".
    pub drbd: Option<(Generation, String)>,
    /// Whether the kernel can run the fence-peer handler.
    pub helper_can_run: bool,
    /// DRBD's connections can authenticate each other: the kernel has hmac(sha1).
    pub connections_authenticate: bool,
    /// Tools and modules that are missing, each with the package that has it, in words for people.
    pub missing: Vec<String>,
}

const TOOLS: [&str; 12] = [
    "drbdadm",
    "drbdsetup",
    "drbdmeta",
    "lvs",
    "vgs",
    "lvcreate",
    "lvchange",
    "lvremove",
    "blkdiscard",
    "losetup",
    "dmsetup",
    "modprobe",
];
const MODULES: [&str; 4] = ["drbd", "dm_mod", "dm_thin_pool", "loop"];
const MODPROBE: Duration = Duration::from_secs(10);

/// Looks at the node. Loads the modules that Hawser needs and that are not loaded yet.
pub(super) async fn find() -> Facts {
    let mut missing = Vec::new();
    for tool in TOOLS {
        if !in_path(tool) {
            let package = package_of(tool).unwrap_or("unknown");
            missing.push(format!("program {tool} (package {package})"));
        }
    }
    for module in MODULES {
        if !have_module(module).await {
            missing.push(format!("kernel module {module}"));
        }
    }
    let connections_authenticate = have_module("hmac").await && have_module("sha1_generic").await;
    if !connections_authenticate {
        missing.push("kernel modules hmac and sha1: connections of DRBD are not authenticated".to_owned());
    }
    let drbd = text("/sys/module/drbd/version").and_then(|version| Some((generation(&version)?, version)));
    Facts {
        boot_id: text("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        kernel_version: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        uname: text("/proc/sys/kernel/hostname").unwrap_or_default(),
        helper_can_run: text("/sys/module/drbd/parameters/usermode_helper")
            .is_some_and(|helper| helper_runs(&helper)),
        drbd,
        connections_authenticate,
        missing,
    }
}

/// The generation that a version of the module belongs to.
pub fn generation(version: &str) -> Option<Generation> {
    if version.starts_with("8.4.") {
        return Some(Generation::V8_4);
    }
    version.starts_with("9.").then_some(Generation::V9)
}

/// The kernel runs the helper unless it is told "disabled", which it then takes for success.
fn helper_runs(helper: &str) -> bool {
    helper != "disabled" && Path::new(helper).exists()
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

async fn have_module(module: &str) -> bool {
    let loaded = || Path::new("/sys/module").join(module).exists();
    // One that is built in may have no folder there; modprobe knows those too and succeeds.
    loaded() || run(&CommandLine::new("modprobe").arg("-q").arg(module), MODPROBE).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_told_by_the_version() {
        for (version, expected) in [
            ("8.4.11", Some(Generation::V8_4)),
            ("9.3.3", Some(Generation::V9)),
            ("9.2.16-1", Some(Generation::V9)),
            ("10.0.0", None),
            ("", None),
        ] {
            assert_eq!(generation(version), expected, "{version}");
        }
    }

    #[test]
    fn a_disabled_helper_does_not_run() {
        assert!(!helper_runs("disabled"));
        assert!(!helper_runs("/sbin/there-is-no-such-helper"));
        assert!(helper_runs("/proc/self/exe"));
    }
}
