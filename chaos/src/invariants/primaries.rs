//! 3: never two Primaries that let I/O through, and no node acknowledges a write of a generation that Raft has given to
//! another.

use std::collections::{BTreeMap, BTreeSet};

use hawser_plan::observed::{DiskState, Role};
use hawser_satellite::host::sim::{NodeSeen, ResourceSeen};

use super::seen::Seen;

/// The owners of each DRBD resource at the last look and at this one: within a step the one may follow the other.
#[derive(Default)]
pub(super) struct Primaries {
    owners: BTreeMap<String, String>,
}

impl Primaries {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = two_at_once(seen);
        let owners: BTreeMap<String, String> = seen
            .state
            .resources()
            .filter_map(|resource| {
                Some((resource.drbd_name.clone(), resource.arbitration.as_ref()?.owner.clone()))
            })
            .collect();
        for (node, drbd_name) in &seen.acknowledgers {
            let one_of = [self.owners.get(drbd_name), owners.get(drbd_name)];
            let known: BTreeSet<&String> = one_of.into_iter().flatten().collect();
            if !known.is_empty() && !known.contains(node) {
                found.push(format!(
                    "invariant 3: {node} acknowledged a write of {drbd_name}, which Raft has given to {known:?}"
                ));
            }
        }
        self.owners = owners;
        found
    }
}

fn two_at_once(seen: &Seen) -> Vec<String> {
    let mut primaries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &seen.nodes {
        for resource in &node.resources {
            if lets_io_through(node, resource) {
                primaries.entry(&resource.drbd_name).or_default().push(&node.name);
            }
        }
    }
    primaries
        .into_iter()
        .filter(|(_, nodes)| nodes.len() > 1)
        .map(|(resource, nodes)| format!("invariant 3: {resource} is Primary on {}", nodes.join(" and ")))
        .collect()
}

/// Also where its gate is still to be opened. A loser on its way back is Primary for a moment after its disk was
/// detached and its gate led to errors.
fn lets_io_through(node: &NodeSeen, resource: &ResourceSeen) -> bool {
    let prefix = format!("hawser-{}-", resource.drbd_name);
    let mut gates = node.gates.iter().filter(|(name, _)| name.starts_with(&prefix)).peekable();
    let can = match gates.peek() {
        Some(_) => gates.any(|(_, leads_to_device)| *leads_to_device),
        None => resource.disk != DiskState::Diskless,
    };
    resource.role == Role::Primary && !resource.suspended && can
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{DATA, in_order, with};

    #[test]
    fn two_primaries_are_found_unless_one_is_frozen() {
        let mut seen = in_order();
        assert_eq!(Primaries::default().check(&seen), Vec::<String>::new());

        seen.nodes[1].resources[0].role = Role::Primary;
        assert_eq!(Primaries::default().check(&seen).len(), 1);

        seen.nodes[0].resources[0].suspended = true;
        assert_eq!(Primaries::default().check(&seen), Vec::<String>::new());
    }

    #[test]
    fn a_primary_whose_gate_leads_to_errors_or_that_has_neither_gate_nor_disk_lets_nothing_through() {
        type Change = fn(&mut NodeSeen);
        let table: [(&str, Change, usize); 4] = [
            ("the loser's gate leads to its device", |_| (), 1),
            ("it leads to errors", |loser| loser.gates[0].1 = false, 0),
            ("it is gone, and the disk is there", |loser| loser.gates.clear(), 1),
            (
                "it is gone, and so is the disk",
                |loser| {
                    loser.gates.clear();
                    loser.resources[0].disk = DiskState::Diskless;
                },
                0,
            ),
        ];
        for (what, change, found) in table {
            let mut seen = in_order();
            seen.nodes[1].resources[0].role = Role::Primary;
            change(&mut seen.nodes[0]);
            assert_eq!(Primaries::default().check(&seen).len(), found, "{what}");
        }
    }

    #[test]
    fn only_the_owner_acknowledges() {
        let by = |node: &str, owner: &str| Seen {
            acknowledgers: BTreeSet::from([(node.to_owned(), DATA.to_owned())]),
            ..with(|objects| {
                objects.resources[0].arbitration.get_or_insert_default().owner = owner.into();
            })
        };
        let mut primaries = Primaries::default();
        assert_eq!(primaries.check(&by("n1", "n1")), Vec::<String>::new());
        assert_eq!(primaries.check(&by("n1", "n2")), Vec::<String>::new(), "just before it was taken over");
        assert_eq!(primaries.check(&by("n1", "n2")).len(), 1);
    }
}
