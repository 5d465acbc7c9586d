//! 12: one failing command, disk, replica or node delays no other resource. An operation whose own nodes and leader no
//! fault has touched for long ends soon, whatever happens elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use hawser_proto::{ids::OperationId, v1};

use super::seen::Seen;
use crate::clock::Moment;

/// An operation that nothing hinders ends within this time.
const BOUND: Moment = Moment::from_secs(15);

/// Since when nothing has hindered each operation that runs, under which leader.
#[derive(Default)]
pub(super) struct Latency {
    unhindered: BTreeMap<OperationId, (String, Moment)>,
}

impl Latency {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        let leader = seen.leader.as_ref().filter(|leader| !seen.disturbed.contains(*leader));
        let mut unhindered = BTreeMap::new();
        for operation in seen.state.running_operations() {
            let Some(leader) = leader else { break };
            if !nodes_of(seen, operation).is_disjoint(&seen.disturbed) {
                continue;
            }
            let since = match self.unhindered.get(&operation.id()) {
                Some((before, since)) if before == leader => *since,
                _ => seen.now,
            };
            if seen.now - since > BOUND {
                found.push(format!(
                    "invariant 12: operation {} on {} {} runs on after {BOUND:?} in which no fault touched its nodes",
                    operation.id(),
                    operation.resource,
                    operation.node
                ));
            }
            unhindered.insert(operation.id(), (leader.clone(), since));
        }
        self.unhindered = unhindered;
        found
    }
}

/// The nodes on which something has to happen before it can end.
fn nodes_of(seen: &Seen, operation: &v1::Operation) -> BTreeSet<String> {
    let replicas = seen.state.resource(&operation.resource).into_iter().flat_map(|found| &found.replicas);
    let attachments = seen.state.attachments_of(&operation.resource).map(|attachment| &attachment.node);
    let own = Some(&operation.node).filter(|node| !node.is_empty());
    replicas.map(|replica| &replica.node).chain(attachments).chain(own).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::attaching_at;

    fn running(now: u64, disturbed: &[&str], leader: &str) -> Seen {
        let mut seen = attaching_at(now);
        seen.disturbed = disturbed.iter().map(ToString::to_string).collect();
        seen.leader = Some(leader.into());
        seen
    }

    #[test]
    fn only_what_touches_its_own_nodes_may_delay_an_operation() {
        const NONE: &[&str] = &[];
        let at = |host: &'static [&'static str]| host;
        let table = [
            ("nothing hinders it", [(0, NONE, "n3"), (16, NONE, "n3")], 1),
            ("a fault elsewhere", [(0, at(&["n4"]), "n3"), (16, at(&["n4"]), "n3")], 1),
            ("it is not late yet", [(0, NONE, "n3"), (15, NONE, "n3")], 0),
            ("a fault on one of its nodes", [(0, at(&["n2"]), "n3"), (16, NONE, "n3")], 0),
            ("a fault of the leader", [(0, at(&["n3"]), "n3"), (16, NONE, "n3")], 0),
            ("another leader", [(0, NONE, "n4"), (16, NONE, "n3")], 0),
        ];
        for (what, moments, expected) in table {
            let mut latency = Latency::default();
            let found: Vec<String> = moments
                .into_iter()
                .flat_map(|(now, disturbed, leader)| latency.check(&running(now, disturbed, leader)))
                .collect();
            assert_eq!(found.len(), expected, "{what}: {found:?}");
        }
    }
}
