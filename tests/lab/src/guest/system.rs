//! Makes a running system of a root: modules, names, addresses, the state disk, configuration of the tools.
//! What is merely missing becomes a warning; what would mislead whoever works on the node ends the boot.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use nix::mount::{MsFlags, mount};

use super::configuration::GuestConfiguration;
use super::root::mount_one;
use super::{files, init};
use crate::disk;
use crate::network::addresses::{PACKET_SIZE, cluster, management};

const STATE_DISK: &str = "/dev/ubdc";
const STATE: &str = "/state";
/// What survives a power cut.
const DURABLE: [&str; 4] = ["/var/lib/hawser", "/var/lib/drbd", "/etc/hawser", "/root"];

/// Prepares everything; answers with what did not work.
///
/// # Errors
/// Which step failed, and why.
pub(super) fn prepare(configuration: &GuestConfiguration) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    nix::unistd::sethostname(&configuration.name).context("cannot set the host name")?;
    files::write(configuration)?;
    load_modules(configuration, &mut warnings)?;
    map_data_disk(&mut warnings);
    bring_up_network(configuration, &mut warnings);
    mount_state().context("the state disk is not usable")?;
    show_programs_where_the_host_has_them(configuration)?;
    Ok(warnings)
}

fn load_modules(configuration: &GuestConfiguration, warnings: &mut Vec<String>) -> anyhow::Result<()> {
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let directory = Path::new("/usr/lib/modules");
    fs::create_dir_all(directory)?;
    let link = directory.join(&release);
    if !link.exists() {
        let modules = Path::new("/usr/lib/uml/modules").join(&release);
        std::os::unix::fs::symlink(modules, &link)?;
    }
    let mut wanted = vec!["-a", "ext4", "dm-thin-pool", "dm-snapshot", "lru_cache", "ipv6", "loop"];
    if configuration.drbd_modules.is_none() {
        wanted.push("drbd");
    }
    if let Err(error) = run("modprobe", &wanted, "") {
        warnings.push(format!("not every kernel module was loaded: {error}"));
    }
    if let Some(directory) = &configuration.drbd_modules {
        // From 9.3 on the transport needs the kernel's TLS handshake, which DRBD brings along for kernels without.
        let handshake = Some("handshake.ko").filter(|name| directory.join(name).exists());
        for name in ["drbd.ko"].into_iter().chain(handshake).chain(["drbd_transport_tcp.ko"]) {
            let module = directory.join(name);
            run("insmod", &[&module.to_string_lossy()], "").with_context(|| {
                format!("the DRBD module {} given for this lab does not load", module.display())
            })?;
        }
    }
    Ok(())
}

/// Puts the map under the node's volume group by which the lab lets the disk fail.
fn map_data_disk(warnings: &mut Vec<String>) {
    let mapped = fs::read_to_string(disk::SIZE_FILE).map_err(anyhow::Error::from).and_then(|sectors| {
        run("dmsetup", &["create", disk::MAP, "--table", &disk::working(sectors.trim())], "")
    });
    if let Err(error) = mapped {
        warnings.push(format!("the data disk is not there as {}: {error}", disk::DEVICE));
    }
}

fn bring_up_network(configuration: &GuestConfiguration, warnings: &mut Vec<String>) {
    let (number, size) = (configuration.number, PACKET_SIZE);
    let batch = format!(
        "link set lo up\n\
         addr add {}/24 dev vec0\n\
         addr add fd77::{number:x}/64 dev vec0 nodad\n\
         link set vec0 mtu {size} up\n\
         addr add {}/24 dev vec1\n\
         link set vec1 mtu {size} up\n",
        cluster(number),
        management(number),
    );
    if let Err(error) = run("ip", &["-force", "-batch", "-"], &batch) {
        warnings.push(format!("not every address was set: {error}"));
    }
}

fn mount_state() -> anyhow::Result<()> {
    fs::create_dir_all(STATE)?;
    mount_one(STATE_DISK, STATE, "ext4", MsFlags::MS_NOATIME, None)?;
    for path in DURABLE {
        let kept = Path::new(STATE).join(path.trim_start_matches('/'));
        fs::create_dir_all(&kept)?;
        fs::create_dir_all(path)?;
        let none: Option<&str> = None;
        mount(Some(&kept), path, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("cannot keep {path} on {STATE_DISK}"))?;
    }
    fs::create_dir_all("/var/lib/hawser/satellite/drbd.d")?;
    Ok(())
}

/// The node's own mounts hide what the host has below them, and a checkout may lie below `/root` or `/tmp`.
fn show_programs_where_the_host_has_them(configuration: &GuestConfiguration) -> anyhow::Result<()> {
    let programs = &configuration.programs;
    if programs.exists() {
        return Ok(());
    }
    fs::create_dir_all(programs)?;
    let path = programs.to_string_lossy();
    mount_one("hostfs", &path, "hostfs", MsFlags::MS_RDONLY, Some(&path))
}

fn run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", init::PATH)
        .env("DM_DISABLE_UDEV", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        anyhow::bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
