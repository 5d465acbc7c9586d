//! The gate: a linear device-mapper map above the device, which consumers open in its place.
//!
//! Every gate carries a UUID that begins with [`UUID_PREFIX`]; a map without it is never changed or removed.
//! Nothing here waits for I/O that is frozen below: the swap to the `error` target runs in a child of its
//! own that outlives the call.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hawser_plan::observed::{GateFound, GateTable, Looked};
use tokio::process::Child;

use super::{
    Deadline, HostError,
    command::{CommandLine, start},
    devices::{self, Map},
};

/// What the UUID of every gate begins with.
pub const UUID_PREFIX: &str = "HAWSER-";

/// How long the swap to `error` is waited for, for the common case that nothing is frozen.
const QUICK_SWAP: Duration = Duration::from_millis(300);

/// The gates of this node.
pub struct Gates {
    sys: PathBuf,
    /// Swaps to the `error` target that wait for I/O below, by gate.
    swaps: Mutex<BTreeMap<String, Child>>,
}

impl Gates {
    /// The gates that `sys` shows; `/sys` but for tests.
    pub fn new(sys: &Path) -> Self {
        Gates { sys: sys.to_owned(), swaps: Mutex::new(BTreeMap::new()) }
    }

    /// All maps of the node, for [`Gates::look`].
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn maps(&self) -> Result<Vec<Map>, HostError> {
        devices::maps(&self.sys).map_err(|error| HostError::file(&self.sys.join("block"), &error))
    }

    /// How often each map is open.
    ///
    /// # Errors
    /// `dmsetup` failed.
    pub(super) async fn open_counts(&self, deadline: &Deadline) -> Result<BTreeMap<String, u32>, HostError> {
        let command = CommandLine::new("dmsetup").args([
            "info",
            "-c",
            "--noheadings",
            "--separator",
            "|",
            "-o",
            "name,open",
        ]);
        let output = deadline.run(&command).await?;
        Ok(parse_open_counts(&output.stdout))
    }

    /// What stands under a gate's name. `target` is the block name of the device that it should lead to.
    pub(super) fn look(
        maps: &[Map],
        open_counts: &BTreeMap<String, u32>,
        name: &str,
        target: Option<&str>,
    ) -> Looked<GateFound> {
        let Some(map) = maps.iter().find(|map| map.name == name) else { return Looked::Absent };
        // It may have gone since the maps were read, and another may be there.
        let Some(open_count) = open_counts.get(name).copied() else {
            return Looked::Unknown(format!("`dmsetup info` does not say how often {name} is open"));
        };
        Looked::Present(GateFound { table: table(map, target), suspended: map.suspended, open_count })
    }

    /// Makes sure that the gate is there, leads to the whole of `device` and lets I/O through.
    ///
    /// # Errors
    /// Another map has the name, the gate leads elsewhere, or a tool failed.
    pub(super) async fn open(&self, name: &str, device: &Path, deadline: &Deadline) -> Result<(), HostError> {
        let block_name =
            devices::block_name(&self.sys, device).map_err(|error| HostError::file(device, &error))?;
        let sectors =
            devices::sectors(&self.sys, &block_name).map_err(|error| HostError::file(device, &error))?;
        if sectors == 0 {
            return Err(HostError::refused(
                device.display().to_string(),
                "has no size yet; is its disk attached?",
            ));
        }
        if let Some(map) = self.find(name)? {
            check_mark(&map)?;
            match table(&map, Some(&block_name)) {
                GateTable::Linear if map.sectors != sectors => {
                    return Err(HostError::refused(
                        object(name),
                        format!("has {} sectors and its device {sectors}", map.sectors),
                    ));
                }
                GateTable::Linear if !map.suspended => return Ok(()),
                GateTable::Linear => {
                    deadline.run(&CommandLine::new("dmsetup").args(["resume", name])).await?;
                    return Ok(());
                }
                GateTable::Error => self.close(name, deadline).await?,
                GateTable::Other => {
                    return Err(HostError::refused(object(name), format!("leads to {:?}", map.below)));
                }
            }
        }
        let create =
            CommandLine::new("dmsetup").args(["create", name, "--uuid"]).arg(format!("{UUID_PREFIX}{name}"));
        let create = create.arg("--table").arg(format!("0 {sectors} linear {} 0", device.display()));
        deadline.run(&create).await?;
        if !Path::new("/dev/mapper").join(name).exists() {
            deadline.run(&CommandLine::new("dmsetup").args(["mknodes", name])).await?;
        }
        Ok(())
    }

    /// Makes sure that no gate of this name is there.
    ///
    /// A gate that fails everything and is still held, e.g. by a file system that was never unmounted, loses
    /// its name at once and goes away with its last holder: nothing below depends on it any more.
    ///
    /// # Errors
    /// The map is not Hawser's, or it is in use and still leads to its device.
    pub(super) async fn close(&self, name: &str, deadline: &Deadline) -> Result<(), HostError> {
        let Some(map) = self.find(name)? else { return Ok(()) };
        check_mark(&map)?;
        let removed = deadline.run(&CommandLine::new("dmsetup").args(["remove", name])).await;
        match removed {
            Ok(_) => Ok(()),
            Err(error) if error.says("No such device") => Ok(()),
            Err(error) if error.says("Device or resource busy") => {
                let Some(map) = self.find(name)? else { return Ok(()) };
                if table(&map, None) != GateTable::Error {
                    return Err(HostError::refused(object(name), "is in use"));
                }
                let aside = format!("{UUID_PREFIX}failed-{}", map.block_name).to_lowercase();
                deadline.run(&CommandLine::new("dmsetup").args(["rename", name, &aside])).await?;
                deadline.run(&CommandLine::new("dmsetup").args(["remove", "--deferred", &aside])).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Loads `error` into the gate and starts the swap, which ends when what is in flight below has ended.
    ///
    /// # Errors
    /// The map is not Hawser's, or a tool failed. A gate that is not there is no error.
    pub(super) async fn fail(&self, name: &str, deadline: &Deadline) -> Result<(), HostError> {
        let Some(map) = self.find(name)? else { return Ok(()) };
        check_mark(&map)?;
        if table(&map, None) == GateTable::Error || self.swap_is_running(name) {
            return Ok(());
        }
        let reload = CommandLine::new("dmsetup").args(["reload", name, "--table"]);
        deadline.run(&reload.arg(format!("0 {} error", map.sectors))).await?;
        // Neither the file system's freeze nor a flush: both would wait for what is frozen below.
        let swap = CommandLine::new("dmsetup").args(["resume", "--noflush", "--nolockfs", name]);
        let mut child = start(&swap, false)?;
        match tokio::time::timeout(QUICK_SWAP.min(deadline.left()), child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(super::CommandError::Failed {
                command: swap.to_string(),
                code: status.code(),
                message: "its words were not kept".to_owned(),
            }
            .into()),
            Ok(Err(error)) => {
                Err(super::CommandError::NotStarted { command: swap.to_string(), reason: error.to_string() }
                    .into())
            }
            Err(_) => {
                self.swaps.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), child);
                Ok(())
            }
        }
    }

    fn swap_is_running(&self, name: &str) -> bool {
        let mut swaps = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
        let running = swaps.get_mut(name).is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !running {
            swaps.remove(name);
        }
        running
    }

    fn find(&self, name: &str) -> Result<Option<Map>, HostError> {
        Ok(self.maps()?.into_iter().find(|map| map.name == name))
    }
}

fn object(name: &str) -> String {
    format!("gate {name}")
}

fn check_mark(map: &Map) -> Result<(), HostError> {
    if map.uuid.starts_with(UUID_PREFIX) {
        return Ok(());
    }
    Err(HostError::refused(object(&map.name), "the device-mapper map of this name is not Hawser's; it stays"))
}

/// What the live table does. A linear map has its device among its slaves, the `error` target has none.
fn table(map: &Map, target: Option<&str>) -> GateTable {
    match (map.below.as_slice(), target) {
        ([], _) => GateTable::Error,
        ([below], Some(target)) if below == target => GateTable::Linear,
        _ => GateTable::Other,
    }
}

/// Only whole lines: of one that was cut short, the number may lack its last digits.
fn parse_open_counts(text: &str) -> BTreeMap<String, u32> {
    text.split_inclusive('\n')
        .filter_map(|line| {
            let (name, count) = line.strip_suffix('\n')?.trim().rsplit_once('|')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, each_cut, texts};

    use super::*;
    use crate::host::devices::test_tree::add_map;

    #[test]
    fn a_gate_is_told_by_what_lies_below() {
        let tree = tempfile::tempdir().unwrap();
        add_map(tree.path(), "dm-5", "hawser-a", "HAWSER-hawser-a", "254:5", &["drbd1000"]);
        add_map(tree.path(), "dm-6", "hawser-b", "HAWSER-hawser-b", "254:6", &[]);
        let maps = Gates::new(tree.path()).maps().unwrap();
        let counts = parse_open_counts("hawser-a|1\nvg0-thin|0\nhawser-b|0\n");
        let found = |name: &str, target: &str| Gates::look(&maps, &counts, name, Some(target));
        let gate = |table, open_count| Looked::Present(GateFound { table, suspended: false, open_count });
        assert_eq!(found("hawser-a", "drbd1000"), gate(GateTable::Linear, 1));
        assert_eq!(found("hawser-a", "drbd1001"), gate(GateTable::Other, 1));
        assert_eq!(found("hawser-b", "drbd1000"), gate(GateTable::Error, 0));
        assert_eq!(found("hawser-c", "drbd1000"), Looked::Absent);
    }

    #[test]
    fn how_often_a_gate_is_open_is_unknown_where_dmsetup_does_not_say_so() {
        let tree = tempfile::tempdir().unwrap();
        add_map(tree.path(), "dm-5", "hawser-a", "HAWSER-hawser-a", "254:5", &["drbd1000"]);
        let maps = Gates::new(tree.path()).maps().unwrap();
        let said = COUNTS;
        let others = said.replace("hawser-a|", "hawser-other|");
        let look = |said: &str| Gates::look(&maps, &parse_open_counts(said), "hawser-a", Some("drbd1000"));
        let Looked::Present(found) = look(said) else { panic!("{:?}", look(said)) };
        assert_eq!(found.open_count, 2);
        for said in [&others, "", "No devices found\n", "hawser-a|", "hawser-a|many"] {
            let looked = look(said);
            assert!(
                matches!(&looked, Looked::Unknown(why) if why.contains("hawser-a")),
                "{said:?}: {looked:?}"
            );
        }
    }

    const COUNTS: &str = include_str!("../../tests/recorded/dmsetup_info_open_counts.txt");

    #[test]
    fn an_answer_that_was_cut_short_gives_no_other_count() {
        let whole = parse_open_counts(COUNTS);
        each_cut(COUNTS.as_bytes(), |length, cut| {
            for (name, count) in parse_open_counts(&String::from_utf8_lossy(cut)) {
                assert_eq!(whole.get(&name), Some(&count), "{name} after {length} bytes");
            }
        });
    }

    #[test]
    fn hostile_open_counts() {
        check(&texts(&[COUNTS], &["|", "hawser-a|1", "hawser-"]), |text| {
            for (name, count) in parse_open_counts(&text) {
                assert!(text.contains(&name) && text.contains(&count.to_string()), "{name}: {count}");
            }
        });
    }

    #[tokio::test]
    async fn a_map_of_somebody_else_is_never_touched() {
        let tree = tempfile::tempdir().unwrap();
        add_map(tree.path(), "dm-5", "hawser-a", "LVM-x", "254:5", &["drbd1000"]);
        let gates = Gates::new(tree.path());
        let deadline = &Deadline::after(Duration::from_secs(1));
        for result in [gates.close("hawser-a", deadline).await, gates.fail("hawser-a", deadline).await] {
            assert!(matches!(result, Err(HostError::Refused { .. })), "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_gate_that_is_not_there_is_closed_and_failed() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("block")).unwrap();
        let gates = Gates::new(tree.path());
        let deadline = &Deadline::after(Duration::from_secs(1));
        assert_eq!(gates.close("hawser-a", deadline).await, Ok(()));
        assert_eq!(gates.fail("hawser-a", deadline).await, Ok(()));
    }
}
