//! 1: an acknowledged command survives. What one member holds for committed, no member ever holds otherwise.

use std::collections::BTreeMap;

use crate::cluster::Cluster;

/// The committed entries, as the first member that held them for committed had them.
#[derive(Default)]
pub(super) struct Agreement {
    committed: BTreeMap<u64, Vec<u8>>,
    checked: BTreeMap<String, u64>,
}

impl Agreement {
    pub(super) fn check(&mut self, cluster: &Cluster) -> Vec<String> {
        let members = cluster.consensus().into_iter();
        members
            .flat_map(|(name, consensus)| {
                let host = &cluster.hosts[&name];
                self.compare(&name, consensus.status().committed, |index| host.entry(index))
            })
            .collect()
    }

    /// Compares what `name` holds for committed, up to an index, with what was committed before.
    fn compare(&mut self, name: &str, committed: u64, entry: impl Fn(u64) -> Option<Vec<u8>>) -> Vec<String> {
        let mut found = Vec::new();
        let checked = self.checked.entry(name.to_owned()).or_default();
        // A member that was started anew may know less than before, and learns it again.
        for index in *checked + 1..=committed {
            let Some(entry) = entry(index) else { continue };
            let first = self.committed.entry(index).or_insert_with(|| entry.clone());
            if *first != entry {
                found
                    .push(format!("invariant 1: {name} has committed another entry {index} than others had"));
            }
        }
        *checked = committed.max(*checked);
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

    #[test]
    fn what_is_committed_once_is_committed_for_ever() {
        let mut agreement = Agreement::default();
        let entries = |words: &'static [&str]| {
            move |index: u64| words.get(index as usize - 1).map(|word| word.as_bytes().to_vec())
        };
        assert!(agreement.compare("n1", 2, entries(&["a", "b", "not committed"])).is_empty());
        assert!(agreement.compare("n2", 1, entries(&["a", "also not"])).is_empty());
        assert!(agreement.compare("n1", 1, entries(&["a"])).is_empty(), "one that was started anew");

        let found = agreement.compare("n2", 2, entries(&["a", "x"]));

        assert_eq!(found, ["invariant 1: n2 has committed another entry 2 than others had"]);
    }
}
