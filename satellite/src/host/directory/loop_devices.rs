//! The kernel's loop devices, by `losetup`.
//!
//! A device is known by the file that it is bound to, never by a path: paths differ between mount namespaces. It must
//! never unbind a device that was not asked for.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    super::{CommandError, Deadline, HostError, command::CommandLine},
    files::VolumeFile,
};

/// A loop device that is bound to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoopDevice {
    /// E.g. `/dev/loop0`.
    pub(super) path: PathBuf,
    /// The file's file system, as major and minor, and its number there.
    file: (u64, u64, u64),
}

impl LoopDevice {
    /// Whether it is bound to this file.
    pub(super) fn is_of(&self, file: &VolumeFile) -> bool {
        let (device, inode) = file.identity;
        self.file == (nix::sys::stat::major(device), nix::sys::stat::minor(device), inode)
    }
}

/// All that are bound.
pub(super) async fn list(deadline: &Deadline) -> Result<Vec<LoopDevice>, HostError> {
    let command = CommandLine::new("losetup").args([
        "--list",
        "--json",
        "--output",
        "NAME,BACK-INO,BACK-MAJ:MIN,OFFSET,SIZELIMIT,RO",
    ]);
    let output = deadline.run(&command).await?;
    parse(&output.stdout)
        .map_err(|message| CommandError::Unintelligible { command: command.to_string(), message }.into())
}

/// Binds the next free one to a file, past the page cache, and returns it. A file that is bound already keeps its device.
pub(super) async fn bind(file: &Path, deadline: &Deadline) -> Result<PathBuf, HostError> {
    let command = CommandLine::new("losetup").args(["--find", "--show", "--nooverlap", "--direct-io=on"]);
    let command = command.arg(file.display().to_string());
    let output = deadline.run(&command).await?;
    let device = output.stdout.trim();
    if !device.starts_with("/dev/") {
        let message = format!("{device:?} is no device");
        return Err(CommandError::Unintelligible { command: command.to_string(), message }.into());
    }
    Ok(PathBuf::from(device))
}

/// Lets go of a file. One that is in use stays bound until it is not.
pub(super) async fn unbind(device: &Path, deadline: &Deadline) -> Result<(), HostError> {
    deadline.run(&CommandLine::new("losetup").arg("--detach").arg(device.display().to_string())).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Report {
    loopdevices: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: PathBuf,
    #[serde(rename = "back-ino")]
    inode: Option<u64>,
    #[serde(rename = "back-maj:min")]
    device: Option<String>,
    offset: u64,
    sizelimit: u64,
    ro: bool,
}

/// Reads the list. Nothing at all is printed where there is no device.
fn parse(text: &str) -> Result<Vec<LoopDevice>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
    report.loopdevices.into_iter().filter_map(|entry| device(entry).transpose()).collect()
}

/// One entry; `None` where it is bound to nothing any more, or shows only a part of its file, or for reading only:
/// somebody looks at it.
fn device(entry: Entry) -> Result<Option<LoopDevice>, String> {
    let whole = entry.offset == 0 && entry.sizelimit == 0 && !entry.ro;
    let (Some(inode), Some(device), true) = (entry.inode, entry.device, whole) else { return Ok(None) };
    let numbers = device
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = numbers.ok_or_else(|| format!("no numbers of a device: {device:?}"))?;
    Ok(Some(LoopDevice { path: entry.name, file: (major, minor, inode) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, each_cut, texts};

    use super::*;

    const LIST: &str = include_str!("../../../tests/recorded/losetup_list.json");

    #[test]
    fn devices_are_known_by_the_file_that_they_show_as_a_whole() {
        let devices = parse(LIST).unwrap();
        let file = |inode| VolumeFile { size_bytes: 0, mark: None, identity: (65_024, inode) };
        let of = |file: VolumeFile| {
            let device = devices.iter().find(|device| device.is_of(&file));
            device.map(|device| device.path.clone())
        };
        assert_eq!(of(file(9_977_968)), Some("/dev/loop0".into()), "loop2 begins further on in it");
        assert_eq!(of(file(9_977_980)), None, "loop1 is for reading only");
        assert_eq!(of(file(9_977_969)), None);
        assert_eq!(
            of(VolumeFile { identity: (65_025, 9_977_968), ..file(0) }),
            None,
            "on another file system"
        );
    }

    #[test]
    fn no_device_is_an_empty_list_and_nonsense_an_error() {
        let unbound =
            r#"{"loopdevices": [{"name": "/dev/loop0", "offset": 0, "sizelimit": 0, "ro": false}]}"#;
        for nothing in ["", "\n", r#"{"loopdevices": []}"#, unbound] {
            assert_eq!(parse(nothing), Ok(Vec::new()), "{nothing:?}");
        }
        assert!(parse("{}").is_err());
        assert!(parse(&LIST.replace("254:0", "254")).unwrap_err().contains("254"));
    }

    #[test]
    fn hostile_lists_of_loop_devices() {
        check(&texts(&[LIST], &["loopdevices", "back-ino", "254:0", "-1", "null"]), |text| {
            if let Err(words) = parse(&text) {
                assert!(words.contains("line") || words.contains("no numbers"), "{words} does not say what");
            }
        });
        let whole = parse(LIST);
        each_cut(LIST.trim_end().as_bytes(), |length, cut| {
            let read = parse(&String::from_utf8_lossy(cut));
            assert!(length == 0 || read.is_err() || read == whole, "after {length} bytes: {read:?}");
        });
    }
}
