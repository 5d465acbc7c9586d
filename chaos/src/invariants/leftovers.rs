//! 10: once every node has been back, a deleted resource has left nothing anywhere; and what is there is whole.

use std::collections::BTreeSet;

use hawser_plan::observed::{ConnectionState, DiskState};
use hawser_proto::v1;

use super::seen::Seen;

/// What keeps resources from being in sync on all their nodes.
pub(super) fn not_in_sync(seen: &Seen) -> Vec<String> {
    let mut missing = Vec::new();
    for resource in
        seen.state.resources().filter(|resource| resource.lifecycle() == v1::ResourceLifecycle::Ready)
    {
        for replica in &resource.replicas {
            let alone = resource.replicas.len() == 1;
            match seen.in_kernel(&replica.node, &resource.drbd_name) {
                None => missing.push(format!("{} is not up on {}", resource.name, replica.node)),
                Some(seen)
                    if seen.suspended
                        || seen.disk != DiskState::UpToDate
                        || (!alone && seen.connection != ConnectionState::Connected) =>
                {
                    missing.push(format!(
                        "{} on {} is {:?}, {:?}, suspended: {}",
                        resource.name, replica.node, seen.disk, seen.connection, seen.suspended
                    ));
                }
                Some(_) => {}
            }
        }
        let outdated = resource.arbitration.as_ref().map_or(0, |arbitration| arbitration.outdated.len());
        if outdated > 0 {
            missing.push(format!("{} has {outdated} outdated replicas", resource.name));
        }
    }
    missing
}

/// What is on the nodes and belongs to no resource.
pub(super) fn check(seen: &Seen) -> Vec<String> {
    let mut volumes = BTreeSet::new();
    let mut drbd = BTreeSet::new();
    for resource in seen.state.resources() {
        for replica in &resource.replicas {
            drbd.insert((replica.node.clone(), resource.drbd_name.clone()));
            for volume in &replica.backing_volumes {
                volumes.insert((replica.node.clone(), volume.name.clone()));
            }
        }
    }
    let mut found = Vec::new();
    for node in &seen.nodes {
        let at = |name: &str| (node.name.clone(), name.to_owned());
        let mut left = |what: &str, name: &str| {
            found.push(format!("invariant 10: {what} {name} was left behind on {}", node.name));
        };
        for volume in &node.volumes {
            if volume.marked && !volumes.contains(&at(&volume.name)) {
                left("volume", &volume.name);
            }
        }
        for resource in &node.resources {
            if !drbd.contains(&at(&resource.drbd_name)) {
                left("DRBD resource", &resource.drbd_name);
            }
        }
        for file in &node.files {
            if !drbd.contains(&at(file)) {
                left("configuration", file);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{in_order, with};

    #[test]
    fn what_belongs_to_no_resource_is_left_behind() {
        assert_eq!(check(&in_order()), Vec::<String>::new());

        let deleted = with(|objects| {
            objects.resources.clear();
            objects.attachments.clear();
        });

        let found = check(&deleted);
        assert_eq!(found.len(), 6, "volume, DRBD resource and configuration on both nodes: {found:?}");
    }

    #[test]
    fn what_is_not_whole_is_missing() {
        assert_eq!(not_in_sync(&in_order()), Vec::<String>::new());
        type Change = fn(&mut Seen);
        let table: [(&str, Change); 4] = [
            ("it is not up", |seen| seen.nodes[1].resources.clear()),
            ("it is frozen", |seen| seen.nodes[0].resources[0].suspended = true),
            ("it is behind", |seen| seen.nodes[1].resources[0].disk = DiskState::Inconsistent),
            ("it is alone", |seen| {
                seen.nodes[0].resources[0].connection = ConnectionState::Connecting;
            }),
        ];
        for (what, change) in table {
            let mut seen = in_order();
            change(&mut seen);
            assert_eq!(not_in_sync(&seen).len(), 1, "{what}");
        }
    }
}
