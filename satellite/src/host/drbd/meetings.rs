//! Watches whether DRBD's connections have led to a peer.
//!
//! A look shows how a connection is now, not what it has been in between. This follows every change that the kernel
//! reports. It must never say "nobody" of what it has not watched from the beginning, without a gap, up to the look.

use std::collections::BTreeSet;

use hawser_plan::observed::Met;

use super::events2::{ConnectionFound, KernelState, LineError, Progress, ResourceState};

/// States of a connection that has not heard of its peer: everything else has, or may have.
const TRYING: [&str; 4] = ["StandAlone", "Disconnecting", "Unconnected", "Connecting"];

/// One watch after another over the stream of `drbdsetup events2`.
#[derive(Debug, Default)]
pub struct Meetings {
    /// Number of the present watch.
    watch: u64,
    /// The first dump is complete and the stream has not ended.
    watches: bool,
    /// What the stream has told so far.
    state: KernelState,
    /// Resources that have met a peer, or were there before the watch began. Also those that are not there any more:
    /// they may come again.
    met: BTreeSet<String>,
}

impl Meetings {
    /// A new stream begins, or the old one has ended: from here on nothing is watched until its dump is complete.
    pub fn interrupt(&mut self) {
        *self = Meetings { watch: self.watch + 1, ..Meetings::default() };
    }

    /// Takes in a line of the stream.
    ///
    /// # Errors
    /// A line that matters and cannot be understood: this watch is over.
    pub fn take(&mut self, line: &str) -> Result<(), LineError> {
        if self.state.take(line)? == Progress::DumpComplete {
            self.watches = true;
            self.met.extend(self.state.resources.keys().cloned());
        }
        let mentioned = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("name:"));
        if let Some(name) = mentioned
            && let Some(resource) = self.state.resources.get(name)
            && !resource.connections.values().all(is_trying)
        {
            self.met.insert(name.to_owned());
        }
        Ok(())
    }

    /// Forgets a resource that is gone for good.
    pub fn forget(&mut self, drbd_name: &str) {
        self.met.remove(drbd_name);
    }

    /// Whether a resource has met its peer, given how a look has just found it in the kernel.
    pub fn met(&self, drbd_name: &str, looked: Option<&ResourceState>) -> Met {
        if !self.watches {
            return Met::Unknown;
        }
        if self.met.contains(drbd_name)
            || looked.is_some_and(|found| !found.connections.values().all(is_trying))
        {
            return Met::Somebody;
        }
        // A stream that lags may have a meeting yet to tell.
        if words(self.state.resources.get(drbd_name)) == words(looked) {
            Met::Nobody { watch: self.watch }
        } else {
            Met::Unknown
        }
    }
}

/// The states of a resource's connections, but for those that are down: a look at 8.4 shows one also where there is none,
/// the stream does not. `None`: there is no such resource.
fn words(found: Option<&ResourceState>) -> Option<Vec<(u32, &str)>> {
    let connections = found?.connections.iter().map(|(peer, connection)| (*peer, connection.word.as_str()));
    Some(connections.filter(|(_, word)| *word != TRYING[0]).collect())
}

fn is_trying(connection: &ConnectionFound) -> bool {
    TRYING.contains(&connection.word.as_str())
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
        parse_dump(&format!(
            "exists resource name:a.1 role:Secondary\n{}\nexists -\n",
            connection("exists", word)
        ))
        .unwrap()
    }

    #[test]
    fn what_was_watched_from_the_beginning_and_only_tried_has_met_nobody() {
        let mut meetings = watching(&["exists -"]);
        assert_eq!(meetings.met("a.1", None), Met::Nobody { watch: 1 });

        meetings.take("create resource name:a.1 role:Secondary suspended:no").unwrap();
        for word in ["StandAlone", "Unconnected", "Connecting"] {
            meetings.take(&connection("change", word)).unwrap();
            let looked = looked(word);
            assert_eq!(meetings.met("a.1", looked.resources.get("a.1")), Met::Nobody { watch: 1 }, "{word}");
        }
    }

    #[test]
    fn a_moment_is_remembered_and_so_is_who_was_there_before() {
        let trying = looked("Connecting");
        let found = trying.resources.get("a.1");
        for word in ["Connected", "NetworkFailure", "ProtocolError", "a word of a later release"] {
            let mut meetings = watching(&["exists -", &connection("create", "Connecting")]);
            meetings.take(&connection("change", word)).unwrap();
            meetings.take(&connection("change", "Connecting")).unwrap();
            assert_eq!(meetings.met("a.1", found), Met::Somebody, "{word}");

            meetings.take("destroy resource name:a.1").unwrap();
            assert_eq!(meetings.met("a.1", None), Met::Somebody, "it may come again");
            meetings.forget("a.1");
            assert_eq!(meetings.met("a.1", None), Met::Nobody { watch: 1 });
        }
        let before = watching(&[&connection("exists", "Connecting"), "exists -"]);
        assert_eq!(before.met("a.1", found), Met::Somebody);
    }

    #[test]
    fn what_is_not_watched_up_to_the_look_is_not_known() {
        let trying = looked("StandAlone");
        let found = trying.resources.get("a.1");
        let mut meetings = watching(&[]);
        assert_eq!(meetings.met("a.1", None), Met::Unknown, "the dump is not complete");
        meetings.take("exists -").unwrap();
        assert_eq!(meetings.met("a.1", found), Met::Unknown, "the stream has not told of it yet");
        meetings.take(&connection("create", "Connecting")).unwrap();
        assert_eq!(meetings.met("a.1", found), Met::Unknown, "it has more to tell");
        meetings.take(&connection("change", "StandAlone")).unwrap();
        assert_eq!(meetings.met("a.1", found), Met::Nobody { watch: 1 });
        let mut without = watching(&["exists -"]);
        without.take("create resource name:a.1 role:Secondary suspended:no").unwrap();
        assert_eq!(
            without.met("a.1", found),
            Met::Nobody { watch: 1 },
            "a look shows what is not there as down"
        );

        meetings.interrupt();
        assert_eq!(meetings.met("a.1", found), Met::Unknown);
        meetings.take(&connection("exists", "StandAlone")).unwrap();
        meetings.take("exists -").unwrap();
        assert_eq!(meetings.met("a.1", found), Met::Somebody, "nobody saw what it was in the gap");
        assert_eq!(meetings.met("b.2", None), Met::Nobody { watch: 2 });
    }

    #[test]
    fn a_line_that_matters_and_makes_no_sense_is_an_error() {
        assert!(watching(&["exists -"]).take("change connection name:a.1 connection:Connected").is_err());
    }
}
