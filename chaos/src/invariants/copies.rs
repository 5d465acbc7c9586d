//! 5: a copy counts as complete only by creation together with all others, or by sync. So whichever counts, in Raft or
//! in DRBD, holds every write that was acknowledged; and copies that DRBD takes for equal are.

use std::collections::{BTreeMap, BTreeSet};

use hawser_plan::observed::{ConnectionState, DiskState};
use hawser_proto::v1;
use hawser_satellite::host::sim::{NodeSeen, ResourceSeen};

use super::seen::{Seen, is_outdated, keeps_a_copy};

/// Node and DRBD resource of the disks that were UpToDate at the last look.
#[derive(Default)]
pub(super) struct Copies {
    up_to_date: BTreeSet<(String, String)>,
}

impl Copies {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = counted_by_raft(seen);
        found.extend(equal_to_drbd(seen));
        let mut up_to_date = BTreeSet::new();
        for node in &seen.nodes {
            for resource in node.resources.iter().filter(|resource| resource.disk == DiskState::UpToDate) {
                let key = (node.name.clone(), resource.drbd_name.clone());
                let volume = node.volumes.iter().find(|volume| volume.name == resource.volume);
                let missing = volume.and_then(|volume| seen.missing_on(volume, &resource.drbd_name));
                // One that was cut off stays UpToDate in its own eyes, and falls behind.
                if let Some((block, record)) = missing
                    && !self.up_to_date.contains(&key)
                    && !seen.is_doubted_at_home(&node.name, &resource.drbd_name)
                {
                    found.push(format!(
                        "invariant 5: the disk of {} on {} became UpToDate, but block {block} lacks record {record}",
                        resource.drbd_name, node.name
                    ));
                }
                up_to_date.insert(key);
            }
        }
        self.up_to_date = up_to_date;
        found
    }
}

fn counted_by_raft(seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let ready = |resource: &&v1::Resource| resource.lifecycle() == v1::ResourceLifecycle::Ready;
    for resource in seen.state.resources().filter(ready) {
        let counted = resource
            .replicas
            .iter()
            .filter(|replica| keeps_a_copy(replica) && !is_outdated(resource, &replica.node));
        for replica in counted {
            let missing = seen.copy(replica).and_then(|copy| seen.missing_on(copy, &resource.drbd_name));
            if let Some((block, record)) = missing
                && !seen.doubts_itself(resource, replica)
            {
                found.push(format!(
                    "invariant 5: the copy of {} on {} counts as complete, but block {block} lacks record {record}",
                    resource.drbd_name, replica.node
                ));
            }
        }
    }
    found
}

/// Two disks that are UpToDate and connected are the same, also where nobody has written.
fn equal_to_drbd(seen: &Seen) -> Vec<String> {
    let counts = |resource: &&ResourceSeen| {
        resource.disk == DiskState::UpToDate && resource.connection == ConnectionState::Connected
    };
    let mut first: BTreeMap<&str, (&NodeSeen, &ResourceSeen, &BTreeMap<u64, u64>)> = BTreeMap::new();
    let mut found = Vec::new();
    for node in &seen.nodes {
        for resource in node.resources.iter().filter(counts) {
            let volume = node.volumes.iter().find(|volume| volume.name == resource.volume);
            let Some(blocks) = volume.map(|volume| &volume.blocks) else { continue };
            let (other, peer, equal) = first.entry(&resource.drbd_name).or_insert((node, resource, blocks));
            let under_way = |at: &u64| resource.under_way.contains(at) || peer.under_way.contains(at);
            let differs =
                |at: &&u64| blocks.get(at).unwrap_or(&0) != equal.get(at).unwrap_or(&0) && !under_way(at);
            if let Some(block) = blocks.keys().chain(equal.keys()).find(differs) {
                found.push(format!(
                    "invariant 5: the disks of {} on {} and {} are UpToDate and connected, but block {block} differs",
                    resource.drbd_name, other.name, node.name
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{DATA, in_order, with};

    fn behind(mut seen: Seen) -> Seen {
        seen.nodes[1].volumes[0].blocks.insert(0, 4);
        seen
    }

    #[test]
    fn a_copy_that_lacks_a_record_must_not_count() {
        assert_eq!(Copies::default().check(&in_order()), Vec::<String>::new());

        let found = Copies::default().check(&behind(in_order()));

        assert_eq!(found.len(), 3, "Raft and DRBD call it complete, and DRBD equal to its peer: {found:?}");
    }

    #[test]
    fn one_that_is_known_to_be_behind_may_lack_records() {
        let outdated = || {
            let mut seen = behind(with(|objects| {
                let arbitration = objects.resources[0].arbitration.get_or_insert_default();
                arbitration.outdated.push(v1::OutdatedReplica { node: "n2".into(), number: 50 });
            }));
            seen.nodes[1].resources[0].disk = DiskState::Outdated;
            seen
        };
        let mut copies = Copies::default();
        assert_eq!(copies.check(&outdated()), Vec::<String>::new());

        let mut risen = outdated();
        risen.nodes[1].resources[0].disk = DiskState::UpToDate;
        let found = copies.check(&risen);

        assert_eq!(found.len(), 2, "without a sync it must not become UpToDate: {found:?}");
        assert!(found.iter().all(|found| found.contains(DATA)), "{found:?}");
    }

    #[test]
    fn copies_that_drbd_takes_for_equal_are_equal_where_nobody_has_written() {
        let mut seen = in_order();
        seen.nodes[1].volumes[0].blocks.insert(77, 1);
        assert_eq!(Copies::default().check(&seen).len(), 1);

        seen.nodes[1].resources[0].connection = ConnectionState::Connecting;
        assert_eq!(Copies::default().check(&seen), Vec::<String>::new(), "DRBD does not say so");
    }
}
