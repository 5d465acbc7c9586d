//! A disk that leaves UpToDate while its connection stands calls no helper, so nobody asks for an `Outdate`. The
//! leader proposes it from the report.
//!
//! Only beside a copy that is certainly good: marking the last good copy would leave nobody to go on with.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use super::evidence::{connected, disk, is_diskful, is_up_to_date, outdated, seen_under};
use crate::leader::observed::Observed;

/// `Outdate` for each copy whose disk was lost beside a good one.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    state
        .resources()
        .filter(|resource| resource.data_may_exist && resource.lifecycle() == v1::ResourceLifecycle::Ready)
        .flat_map(|resource| {
            let replicas = resource.replicas.iter();
            replicas.filter(|replica| has_failed(observed, resource, replica)).map(|replica| {
                Command::Outdate(v1::Outdate {
                    resource: resource.name.clone(),
                    resource_incarnation: resource.incarnation,
                    node: replica.node.clone(),
                    ..Default::default()
                })
            })
        })
        .collect()
}

fn has_failed(observed: &Observed, resource: &v1::Resource, replica: &v1::Replica) -> bool {
    if !is_diskful(replica) || outdated(resource, &replica.node).is_some() {
        return false;
    }
    let Some(report) = seen_under(observed, &resource.name, replica, resource.incarnation().revision())
    else {
        return false;
    };
    let lost = resource.volumes.iter().any(|volume| is_lost(disk(report, volume.number)));
    lost && resource.replicas.iter().any(|peer| {
        peer.node != replica.node
            && is_diskful(peer)
            && outdated(resource, &peer.node).is_none()
            && connected(report, &peer.node).is_some()
            && seen_under(observed, &resource.name, peer, resource.incarnation().revision()).is_some_and(
                |peer_report| {
                    is_up_to_date(resource, peer_report) && connected(peer_report, &replica.node).is_some()
                },
            )
    })
}

/// States that a disk with all acknowledged writes does not pass through while it is connected.
fn is_lost(disk: v1::DiskState) -> bool {
    use v1::DiskState::{Detaching, Diskless, Failed, Inconsistent, Outdated};
    matches!(disk, Diskless | Failed | Detaching | Inconsistent | Outdated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn failed() -> World {
        let mut world = World::attaching();
        world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into();
        world
    }

    #[test]
    fn a_lost_disk_beside_a_good_one_is_marked() {
        for state in ["DISKLESS", "FAILED", "DETACHING", "INCONSISTENT", "OUTDATED"] {
            let mut world = failed();
            let state = v1::DiskState::from_str_name(&format!("DISK_STATE_{state}"));
            world.report("n2").volumes[0].disk = state.unwrap_or_default().into();
            assert_eq!(
                decide(&world.state(), &world.observed()),
                [Command::Outdate(v1::Outdate {
                    resource: "data".into(),
                    resource_incarnation: 20,
                    node: "n2".into(),
                    ..Default::default()
                })],
                "{state:?}"
            );
        }
    }

    #[test]
    fn everything_else_is_left_to_those_who_know() {
        type Change = fn(&mut World);
        let table: [(&str, Change); 7] = [
            ("the link is broken: the helper asks", |world| {
                world.report("n2").peers[0].connection = "Connecting".into();
            }),
            ("the other side sees no link", |world| {
                world.report("n1").peers[0].connection = "Timeout".into()
            }),
            ("the other copy is not good", |world| {
                world.report("n1").volumes[0].disk = v1::DiskState::Consistent.into();
            }),
            ("the other node is not there", |world| world.go_offline("n1")),
            ("it is marked already", |world| {
                let arbitration = world.resource.arbitration.get_or_insert_default();
                arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 45 }];
            }),
            ("there is no data yet", |world| world.resource.data_may_exist = false),
            ("the disk is only being attached", |world| {
                world.report("n2").volumes[0].disk = v1::DiskState::Negotiating.into();
            }),
        ];
        for (what, change) in table {
            let mut world = failed();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
