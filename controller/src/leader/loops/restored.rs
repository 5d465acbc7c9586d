//! After a restore: what each node says that it holds is recorded part by part, and what is unknown is forgotten once
//! its node says that nothing is left of it.
//!
//! It must never forget what a node merely does not mention.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;
use prost::Message;

use crate::leader::observed::{NodeSeen, Observed};

/// Bytes of what is recorded at once: well below what a log entry may hold.
const PART_BYTES: usize = 24 * 1024;

/// `RecordHeld` for the next part of each node that has not reported, and `ForgetHeld` for what is gone.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    if state.restored().is_none() {
        return Vec::new();
    }
    let online = observed.nodes().filter(|(_, seen)| seen.online);
    let known = online.filter_map(|(name, seen)| Some((state.node(name)?, seen)));
    known
        .filter(|(node, _)| !node.is_lost())
        .flat_map(|(node, seen)| {
            if state.has_reported(node) {
                gone(state, &node.name, seen)
            } else {
                next_part(state, node, seen).into_iter().collect()
            }
        })
        .collect()
}

fn next_part(state: &State, node: &v1::Node, seen: &NodeSeen) -> Option<Command> {
    let all = &seen.inventory.as_ref()?.replicas;
    let recorded = state.held_on(&node.name).count();
    // More than there is was recorded of something else: it begins anew.
    let before = if recorded < all.len() { recorded } else { 0 };
    let mut bytes = 0;
    let part = all[before..].iter().take_while(|held| {
        let is_first = bytes == 0;
        bytes += held.encoded_len();
        is_first || bytes <= PART_BYTES
    });
    Some(Command::RecordHeld(v1::RecordHeld {
        node: node.name.clone(),
        node_incarnation: node.incarnation,
        before: u32::try_from(before).ok()?,
        replicas: part.cloned().collect(),
        total: u32::try_from(all.len()).ok()?,
    }))
}

fn gone(state: &State, node: &str, seen: &NodeSeen) -> Vec<Command> {
    if !seen.complete || state.is_settling() {
        return Vec::new();
    }
    let is_gone = |held: &&v1::HeldReplica| {
        seen.unknown.get(&(held.resource.clone(), held.replica_incarnation())) == Some(&v1::Presence::Absent)
    };
    let forget = |held: &v1::HeldReplica| {
        Command::ForgetHeld(v1::ForgetHeld {
            node: node.to_owned(),
            resource: held.resource.clone(),
            replica_incarnation: held.replica_incarnation,
        })
    };
    state.unknown().filter(|held| held.node == node).filter(is_gone).map(forget).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hawser_proto::ids::Incarnation;

    use super::*;
    use crate::leader::loops::table::World;

    fn held(node: &str, incarnation: u64) -> v1::HeldReplica {
        v1::HeldReplica {
            node: node.into(),
            resource: "newer".into(),
            resource_incarnation: incarnation,
            replica_incarnation: incarnation,
            lineage: 1,
            revision: 90,
            // So that two make a part.
            drbd_name: "x".repeat(PART_BYTES / 2 - 100),
            ..Default::default()
        }
    }

    fn restored() -> World {
        let mut world = World::attaching();
        world.restored =
            Some(v1::Restored { restore_id: 7, base: 1000, settling: true, ..Default::default() });
        world
    }

    #[test]
    fn a_cluster_that_never_was_restored_records_nothing() {
        let mut world = World::attaching();
        world.seen("n1").inventory = Some(Arc::new(v1::Inventory { replicas: vec![held("n1", 80)] }));
        assert_eq!(decide(&world.state(), &world.observed()), []);
    }

    #[test]
    fn what_a_node_holds_is_recorded_part_by_part() {
        let mut world = restored();
        assert_eq!(decide(&world.state(), &world.observed()), [], "nobody has said anything");
        let all: Vec<_> = (80..85).map(|incarnation| held("n1", incarnation)).collect();
        world.seen("n1").inventory = Some(Arc::new(v1::Inventory { replicas: all.clone() }));
        for (recorded, first, last) in [(0, 0, 2), (2, 2, 4), (4, 4, 5), (5, 0, 2), (9, 0, 2)] {
            world.held = (80..80 + recorded).map(|incarnation| held("n1", incarnation)).collect();
            let expected = Command::RecordHeld(v1::RecordHeld {
                node: "n1".into(),
                node_incarnation: 1,
                before: first as u32,
                replicas: all[first..last].to_vec(),
                total: 5,
            });
            assert_eq!(decide(&world.state(), &world.observed()), [expected], "{recorded}");
        }
        world.go_offline("n1");
        assert_eq!(decide(&world.state(), &world.observed()), []);
    }

    #[test]
    fn a_node_that_holds_nothing_says_so() {
        let mut world = restored();
        world.seen("n2").inventory = Some(Arc::default());
        let commands = decide(&world.state(), &world.observed());
        assert!(
            matches!(&commands[..], [Command::RecordHeld(record)] if record.total == 0 && record.node == "n2"),
            "{commands:?}"
        );
    }

    #[test]
    fn what_is_unknown_is_forgotten_only_when_its_node_says_that_it_is_gone() {
        let mut world = restored();
        world.restored = Some(v1::Restored { restore_id: 7, base: 1000, ..Default::default() });
        world.held_lineage = 1;
        world.held = vec![held("n1", 80)];
        let key = ("newer".to_owned(), Incarnation::new(80));
        for (said, forgotten) in [
            (None, false),
            (Some(v1::Presence::Present), false),
            (Some(v1::Presence::Unknown), false),
            (Some(v1::Presence::Absent), true),
        ] {
            world.seen("n1").unknown.clear();
            if let Some(presence) = said {
                world.seen("n1").unknown.insert(key.clone(), presence);
            }
            let commands = decide(&world.state(), &world.observed());
            assert_eq!(commands.len(), usize::from(forgotten), "{said:?}: {commands:?}");
        }
        world.seen("n1").complete = false;
        assert_eq!(decide(&world.state(), &world.observed()), [], "it has not reported everything");
    }
}
