//! Watches whether DRBD's connections have led to a Primary.
//!
//! A look shows how a connection is now, not what it has been in between. This follows every change that the kernel
//! reports. It must never say "nobody" of what it has not watched from the beginning, without a gap, up to the look.

use std::collections::BTreeMap;

use hawser_plan::observed::{DiskState, Met, Role, Watch};

use super::events2::{KernelState, LineError, Progress, ResourceState};

/// An end that neither is connected nor tries to be.
const DOWN: &str = "StandAlone";
/// States of a connection that has not heard of its peer: everything else has, or may have. The peer may have heard of
/// this side in the moment before an end that is taken down shows it.
const UNHEARD: [&str; 4] = [DOWN, "Disconnecting", "Unconnected", "Connecting"];

/// One watch after another over the stream of `drbdsetup events2`.
#[derive(Debug, Default)]
pub struct Meetings {
    /// Number of the present watch.
    number: u64,
    /// The first dump is complete and the stream has not ended.
    watches: bool,
    /// What the stream has told so far.
    state: KernelState,
    /// By resource, also of those that are not there any more: they may come again.
    counted: BTreeMap<String, Counted>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    meetings: u64,
    ended: u64,
    is_down: bool,
    has_heard: bool,
    /// The present meeting counts, for the peer's role has not been told.
    is_open: bool,
}

impl Meetings {
    /// A new stream begins, or the old one has ended: from here on nothing is watched until its dump is complete.
    pub fn interrupt(&mut self) {
        *self = Meetings { number: self.number + 1, ..Meetings::default() };
    }

    /// Takes in a line of the stream.
    ///
    /// # Errors
    /// A line that matters and cannot be understood, or one that says that others are missing: this watch is over.
    pub fn take(&mut self, line: &str) -> Result<(), LineError> {
        if line.split_ascii_whitespace().any(|word| word == "skipped") {
            let problem = "changes were lost".to_owned();
            return Err(LineError { line: line.to_owned(), problem });
        }
        if self.state.take(line)? == Progress::DumpComplete {
            self.watches = true;
            let tries = |resource: &ResourceState| !words(Some(resource)).unwrap_or_default().is_empty();
            for (name, resource) in &self.state.resources {
                let tries = tries(resource);
                let counted = Counted {
                    meetings: u64::from(tries),
                    ended: 0,
                    is_down: !tries,
                    has_heard: tries,
                    is_open: false,
                };
                self.counted.insert(name.clone(), counted);
            }
        }
        if self.watches
            && let Some(name) = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("name:"))
        {
            self.count(name);
        }
        Ok(())
    }

    fn count(&mut self, drbd_name: &str) {
        let resource = self.state.resources.get(drbd_name);
        let words = words(resource).unwrap_or_default();
        let is_down = words.is_empty();
        let has_heard = words.iter().any(|(_, word)| !UNHEARD.contains(word));
        let mut roles =
            resource.into_iter().flat_map(|found| found.connections.values()).map(|found| found.role);
        let (is_told, is_harmless) =
            (roles.clone().any(|role| role != Role::Unknown), roles.all(|role| role == Role::Secondary));
        let counted = self
            .counted
            .entry(drbd_name.to_owned())
            .or_insert(Counted { is_down: true, ..Counted::default() });
        if has_heard && !counted.has_heard {
            counted.meetings += 1;
            counted.is_open = true;
        }
        if counted.is_open && is_told {
            counted.meetings -= u64::from(is_harmless);
            counted.is_open = false;
        }
        counted.is_open &= has_heard;
        counted.ended += u64::from(is_down && !counted.is_down);
        (counted.is_down, counted.has_heard) = (is_down, has_heard);
    }

    /// Forgets a resource that is gone for good.
    pub fn forget(&mut self, drbd_name: &str) {
        self.counted.remove(drbd_name);
    }

    /// What became of a resource's connections, given how a look has just found it in the kernel.
    pub fn met(&self, drbd_name: &str, looked: Option<&ResourceState>) -> Met {
        // A stream that lags may have a meeting yet to tell.
        let told = self.state.resources.get(drbd_name);
        if !self.watches || words(told) != words(looked) || disks(told) != disks(looked) {
            return Met::Unknown;
        }
        let counted = self.counted.get(drbd_name).copied().unwrap_or_default();
        Met::Watched(Watch { number: self.number, meetings: counted.meetings, ended: counted.ended })
    }
}

/// The states of a resource's connections, but for those that are down: a look at 8.4 shows one also where there is none,
/// the stream does not. `None`: there is no such resource.
fn words(found: Option<&ResourceState>) -> Option<Vec<(u32, &str)>> {
    let connections = found?.connections.iter().map(|(peer, connection)| (*peer, connection.word.as_str()));
    Some(connections.filter(|(_, word)| *word != DOWN).collect())
}

/// The states of a resource's own disks: a handshake that was broken off leaves the words as they were, but not these.
fn disks(found: Option<&ResourceState>) -> Vec<(u32, DiskState)> {
    let devices = found.into_iter().flat_map(|found| &found.devices);
    devices.map(|(volume, device)| (*volume, device.disk)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::events2::parse_dump, *};

    fn connection(kind: &str, word: &str) -> String {
        format!("{kind} connection name:a.1 peer-node-id:0 conn-name:peer connection:{word} role:Unknown")
    }

    fn watching(lines: &[&str]) -> Meetings {
        let mut meetings = Meetings::default();
        meetings.interrupt();
        for line in lines {
            meetings.take(line).unwrap();
        }
        meetings
    }

    fn looked(word: &str) -> KernelState {
        let resource = "exists resource name:a.1 role:Secondary";
        parse_dump(&format!("{resource}\n{}\nexists -\n", connection("exists", word))).unwrap()
    }

    fn watched(meetings: u64, ended: u64) -> Met {
        Met::Watched(Watch { number: 1, meetings, ended })
    }

    #[test]
    fn what_was_watched_from_the_beginning_and_only_tried_has_met_nobody() {
        let mut meetings = watching(&["exists -"]);
        assert_eq!(meetings.met("a.1", None), watched(0, 0));

        meetings.take("create resource name:a.1 role:Secondary suspended:no").unwrap();
        for (word, ended) in [
            ("StandAlone", 0),
            ("Unconnected", 0),
            ("Connecting", 0),
            ("Disconnecting", 0),
            ("StandAlone", 1),
            ("Connecting", 1),
        ] {
            meetings.take(&connection("change", word)).unwrap();
            let looked = looked(word);
            assert_eq!(meetings.met("a.1", looked.resources.get("a.1")), watched(0, ended), "{word}");
        }
        meetings.take("destroy resource name:a.1").unwrap();
        assert_eq!(meetings.met("a.1", None), watched(0, 2), "its end came down with it");
    }

    #[test]
    fn a_moment_is_remembered_and_so_is_who_tried_before() {
        let trying = looked("Connecting");
        let found = trying.resources.get("a.1");
        for word in ["Connected", "NetworkFailure", "ProtocolError", "a-word-of-a-later-release"] {
            let mut meetings = watching(&["exists -", &connection("create", "Connecting")]);
            meetings.take(&connection("change", word)).unwrap();
            meetings.take(&connection("change", "Connecting")).unwrap();
            assert_eq!(meetings.met("a.1", found), watched(1, 0), "{word}");

            meetings.take("destroy resource name:a.1").unwrap();
            assert_eq!(meetings.met("a.1", None), watched(1, 1), "it may come again");
            meetings.forget("a.1");
            assert_eq!(meetings.met("a.1", None), watched(0, 0));
        }
        let tried = watching(&[&connection("exists", "Connecting"), "exists -"]);
        assert_eq!(tried.met("a.1", found), watched(1, 0));
        let down = looked("StandAlone");
        let was_down = watching(&[&connection("exists", "StandAlone"), "exists -"]);
        assert_eq!(was_down.met("a.1", down.resources.get("a.1")), watched(0, 0), "nobody comes to that");
    }

    #[test]
    fn a_secondary_holds_nothing_back() {
        for (role, met) in [("Secondary", 0), ("Primary", 1)] {
            let mut meetings = watching(&["exists -", &connection("create", "Connecting")]);
            let found = looked("Connected");
            let found = found.resources.get("a.1");
            meetings.take(&connection("change", "Connected")).unwrap();
            assert_eq!(meetings.met("a.1", found), watched(1, 0), "its role is not told yet");
            let told = format!("change connection name:a.1 peer-node-id:0 conn-name:peer role:{role}");
            meetings.take(&told).unwrap();
            assert_eq!(meetings.met("a.1", found), watched(met, 0), "{role}");
            meetings.take(&connection("change", "NetworkFailure")).unwrap();
            meetings.take(&connection("change", "StandAlone")).unwrap();
            assert_eq!(meetings.met("a.1", None), Met::Unknown);
            meetings.take("destroy resource name:a.1").unwrap();
            assert_eq!(meetings.met("a.1", None), watched(met, 1), "{role}");
        }
    }

    #[test]
    fn what_is_not_watched_up_to_the_look_is_not_known() {
        let (connecting, connected) = (looked("Connecting"), looked("Connected"));
        let mut meetings = watching(&[]);
        assert_eq!(meetings.met("a.1", None), Met::Unknown, "the dump is not complete");
        meetings.take("exists -").unwrap();
        let found = connecting.resources.get("a.1");
        assert_eq!(meetings.met("a.1", found), Met::Unknown, "the stream has not told of it yet");
        meetings.take(&connection("create", "Connecting")).unwrap();
        assert_eq!(meetings.met("a.1", found), watched(0, 0));
        assert_eq!(meetings.met("a.1", connected.resources.get("a.1")), Met::Unknown, "it has more to tell");

        meetings.interrupt();
        assert_eq!(meetings.met("a.1", found), Met::Unknown);
        meetings.take("exists -").unwrap();
        assert_eq!(meetings.met("a.1", None), Met::Watched(Watch { number: 2, ..Watch::default() }));
    }

    #[test]
    fn a_meeting_that_is_over_shows_in_the_disk_before_the_stream_has_told_of_it() {
        let device =
            |kind: &str, disk: &str| format!("{kind} device name:a.1 volume:0 minor:1000 disk:{disk}");
        let looked = |disk: &str| {
            let resource = "exists resource name:a.1 role:Secondary";
            let connection = connection("exists", "Connecting");
            parse_dump(&format!("{resource}\n{connection}\n{}\nexists -\n", device("exists", disk))).unwrap()
        };
        let meetings = watching(&[
            "exists -",
            "create resource name:a.1 role:Secondary suspended:no",
            &device("create", "Consistent"),
            &connection("create", "Connecting"),
        ]);
        for (disk, met) in [("Consistent", watched(0, 0)), ("UpToDate", Met::Unknown)] {
            assert_eq!(meetings.met("a.1", looked(disk).resources.get("a.1")), met, "{disk}");
        }
    }

    #[test]
    fn a_look_shows_an_end_that_is_not_there_as_down() {
        let down = looked("StandAlone");
        let mut without = watching(&["exists -"]);
        without.take("create resource name:a.1 role:Secondary suspended:no").unwrap();
        assert_eq!(without.met("a.1", down.resources.get("a.1")), watched(0, 0));
    }

    #[test]
    fn a_stream_that_has_lost_something_is_no_watch() {
        for line in ["change connection name:a.1 connection:Connected", "- skipped 3"] {
            assert!(watching(&["exists -"]).take(line).is_err(), "{line}");
        }
    }
}
