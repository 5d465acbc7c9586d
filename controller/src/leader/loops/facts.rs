//! What placement depends on is learnt into the state: a node's DRBD and name, a pool's size.
//!
//! Sizes are recorded only when they changed by a hundredth or more: a report must not flood the log. That of a volume
//! group changes only when somebody else cuts from it, and all of it may be promised: there every change counts.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use crate::leader::observed::{NodeSeen, Observed};

/// `RecordNodeFacts` and `RecordPoolCapacity` for what differs from the state.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    observed
        .nodes()
        .filter(|(_, seen)| seen.online)
        .filter_map(|(name, seen)| Some((state.node(name)?, seen)))
        .flat_map(|(node, seen)| node_facts(node, seen).into_iter().chain(capacities(state, node, seen)))
        .collect()
}

fn node_facts(node: &v1::Node, seen: &NodeSeen) -> Option<Command> {
    let differs = node.uname != seen.node.uname || node.facts != seen.node.facts;
    (differs && !seen.node.uname.is_empty()).then(|| {
        Command::RecordNodeFacts(v1::RecordNodeFacts {
            node: node.name.clone(),
            incarnation: node.incarnation,
            uname: seen.node.uname.clone(),
            facts: seen.node.facts.clone(),
        })
    })
}

fn capacities(state: &State, node: &v1::Node, seen: &NodeSeen) -> Vec<Command> {
    let reports = seen.pools.values().filter(|report| report.problem.is_empty() && report.capacity_bytes > 0);
    reports
        .filter_map(|report| {
            let pool = state.pool(&node.name, &report.name)?;
            let enough = if is_volume_group(pool) { 0 } else { pool.capacity_bytes / 100 };
            let differs = pool.capacity_bytes.abs_diff(report.capacity_bytes) > enough;
            (pool.incarnation() == report.incarnation() && differs).then(|| {
                Command::RecordPoolCapacity(v1::RecordPoolCapacity {
                    node: node.name.clone(),
                    name: pool.name.clone(),
                    incarnation: pool.incarnation,
                    capacity_bytes: report.capacity_bytes,
                })
            })
        })
        .collect()
}

fn is_volume_group(pool: &v1::StoragePool) -> bool {
    matches!(pool.provider, Some(v1::storage_pool::Provider::Lvm(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::leader::loops::table::World;

    #[test]
    fn facts_are_recorded_once() {
        let mut world = World::attaching();
        assert_eq!(decide(&world.state(), &world.observed()), [], "all is known");

        let facts = v1::NodeFacts { drbd_version: "9.3.3".into(), ..Default::default() };
        world.seen("n1").node.facts = Some(facts.clone());
        let commands = decide(&world.state(), &world.observed());
        assert_eq!(
            commands,
            [Command::RecordNodeFacts(v1::RecordNodeFacts {
                node: "n1".into(),
                incarnation: 1,
                uname: "n1".into(),
                facts: Some(facts),
            })]
        );
        world.go_offline("n1");
        assert_eq!(decide(&world.state(), &world.observed()), []);
    }

    #[test]
    fn a_capacity_is_recorded_when_it_changed_enough() {
        let table = [
            (1_000_000, "", 11, 0),
            (1_009_999, "", 11, 0),
            (1_010_001, "", 11, 1),
            (900_000, "", 11, 1),
            (0, "", 11, 0),
            (2_000_000, "metadata is full", 11, 0),
            (2_000_000, "", 12, 0),
        ];
        for (capacity_bytes, problem, incarnation, expected) in table {
            let mut world = World::attaching();
            let report = v1::PoolObserved {
                name: "fast".into(),
                incarnation,
                capacity_bytes,
                problem: problem.into(),
                ..Default::default()
            };
            world.seen("n1").pools.insert("fast".into(), report);
            let commands = decide(&world.state(), &world.observed());
            assert_eq!(commands.len(), expected, "{capacity_bytes} {problem} {incarnation}");
        }
    }

    #[test]
    fn every_change_of_a_volume_group_counts() {
        for (capacity_bytes, expected) in [(1_000_000, 0), (999_999, 1), (1_000_001, 1)] {
            let mut world = World::attaching();
            let group = v1::LvmProvider { volume_group: "vg0".into() };
            world.provider = Some(v1::storage_pool::Provider::Lvm(group));
            let report = v1::PoolObserved {
                name: "fast".into(),
                incarnation: 11,
                capacity_bytes,
                ..Default::default()
            };
            world.seen("n1").pools.insert("fast".into(), report);
            assert_eq!(decide(&world.state(), &world.observed()).len(), expected, "{capacity_bytes}");
        }
    }
}
