//! 1: an acknowledged command survives. What one member holds for committed, no member ever holds otherwise.

use std::collections::BTreeMap;

use hawser_controller::consensus::Status;

use crate::cluster::Cluster;

/// The committed entries, as the first member that held them for committed had them.
#[derive(Default)]
pub(super) struct Agreement {
    committed: BTreeMap<u64, Vec<u8>>,
    checked: BTreeMap<String, u64>,
}

/// What a member holds for committed, and its log still has.
struct Held {
    /// The last that a snapshot has in its place. One that came from another member need not have been followed on this
    /// one's disk yet, where what lies up to there was not always committed.
    replaced: u64,
    applied: u64,
}

impl From<&Status> for Held {
    fn from(status: &Status) -> Self {
        Self { replaced: status.purged.max(status.snapshot), applied: status.applied }
    }
}

impl Agreement {
    pub(super) fn check(&mut self, cluster: &Cluster) -> Vec<String> {
        let members = cluster.consensus().into_iter();
        members
            .flat_map(|(name, consensus)| {
                let host = &cluster.hosts[&name];
                self.compare(&name, &Held::from(&consensus.status()), |index| host.entry(index))
            })
            .collect()
    }

    /// Compares what `name` holds for committed with what was committed before.
    fn compare(&mut self, name: &str, held: &Held, entry: impl Fn(u64) -> Option<Vec<u8>>) -> Vec<String> {
        let mut found = Vec::new();
        let checked = self.checked.entry(name.to_owned()).or_default();
        // A member that was started anew may know less than before, and learns it again.
        *checked = held.replaced.max(*checked);
        while *checked < held.applied {
            let index = *checked + 1;
            // It may be applied before it has reached this member's disk: others have it.
            let Some(entry) = entry(index) else { break };
            let first = self.committed.entry(index).or_insert_with(|| entry.clone());
            if *first != entry {
                found
                    .push(format!("invariant 1: {name} has committed another entry {index} than others had"));
            }
            *checked = index;
        }
        found
    }
}

/// What keeps the members from having the same state.
pub(super) fn differences(cluster: &Cluster) -> Vec<String> {
    let published: Vec<_> = cluster
        .consensus()
        .into_iter()
        .map(|(name, consensus)| (name, consensus.view().published()))
        .collect();
    let Some((first, newest)) = published.first() else { return vec!["no controller runs".to_owned()] };
    published
        .iter()
        .filter(|(_, other)| {
            other.revision != newest.revision || other.state.checksum() != newest.state.checksum()
        })
        .map(|(name, other)| {
            format!("{name} is at revision {}, {first} at {}", other.revision, newest.revision)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(words: &'static [&str]) -> impl Fn(u64) -> Option<Vec<u8>> {
        move |index: u64| words.get(index as usize - 1).map(|word| word.as_bytes().to_vec())
    }

    fn applied(applied: u64) -> Held {
        Held { replaced: 0, applied }
    }

    #[test]
    fn what_is_committed_once_is_committed_for_ever() {
        let mut agreement = Agreement::default();
        assert!(agreement.compare("n1", &applied(2), entries(&["a", "b", "not committed"])).is_empty());
        assert!(agreement.compare("n2", &applied(1), entries(&["a", "also not"])).is_empty());
        assert!(
            agreement.compare("n1", &applied(1), entries(&["a"])).is_empty(),
            "one that was started anew"
        );

        let found = agreement.compare("n2", &applied(2), entries(&["a", "x"]));

        assert_eq!(found, ["invariant 1: n2 has committed another entry 2 than others had"]);
    }

    #[test]
    fn what_is_not_on_a_members_disk_yet_is_compared_once_it_is() {
        let mut agreement = Agreement::default();
        assert!(agreement.compare("n1", &applied(2), entries(&["a", "b"])).is_empty());
        assert!(agreement.compare("n2", &applied(2), entries(&["a"])).is_empty());

        let found = agreement.compare("n2", &applied(2), entries(&["a", "x"]));

        assert_eq!(found, ["invariant 1: n2 has committed another entry 2 than others had"]);
    }

    #[test]
    fn what_a_snapshot_has_replaced_was_never_committed_for_sure() {
        let mut agreement = Agreement::default();
        assert!(agreement.compare("n1", &applied(3), entries(&["a", "b", "c"])).is_empty());

        let installed = Held { replaced: 2, applied: 2 };
        assert!(agreement.compare("n2", &installed, entries(&["a", "written alone"])).is_empty());

        let went_on = Held { replaced: 2, applied: 3 };
        let found = agreement.compare("n2", &went_on, entries(&["a", "b", "x"]));
        assert_eq!(found, ["invariant 1: n2 has committed another entry 3 than others had"]);
    }
}
