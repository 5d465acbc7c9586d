//! A copy that was behind counts again once both sides, each asked after the copy was marked, say that they are
//! connected, UpToDate and have nothing out of sync.
//!
//! The mark's number goes along: a report that was under way when the link broke again clears nothing. Nor is the
//! mark cleared of a node that another one took the resource from while it has not let go: on its way back it
//! leaves its peer, and relies on standing as behind meanwhile. That of a replica which is to be removed stays for good.

use hawser_planted::{Defect, is_planted};
use hawser_proto::{
    ids::Revision,
    v1::{self, command::Command},
};
use hawser_state::State;

use super::evidence::{is_diskful, is_in_sync_with, outdated, owner, seen_under};
use crate::leader::observed::Observed;

/// `Synced` for each mark whose copy has caught up.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    let made = |resource: &&v1::Resource| resource.lifecycle() != v1::ResourceLifecycle::Creating;
    let marks = state.resources().filter(made).flat_map(|resource| {
        let outdated = resource.arbitration.iter().flat_map(|arbitration| &arbitration.outdated);
        outdated.map(move |mark| (resource, mark))
    });
    marks
        .filter(|(resource, mark)| {
            !is_revoked(state, resource, mark) && has_caught_up(observed, resource, mark)
        })
        .map(|(resource, mark)| {
            Command::Synced(v1::Synced {
                resource: resource.name.clone(),
                resource_incarnation: resource.incarnation,
                node: mark.node.clone(),
                number: mark.number,
            })
        })
        .collect()
}

fn is_revoked(state: &State, resource: &v1::Resource, mark: &v1::OutdatedReplica) -> bool {
    state
        .attachment(&resource.name, &mark.node)
        .is_some_and(|attachment| attachment.lifecycle() == v1::AttachmentLifecycle::Revoked)
}

fn has_caught_up(observed: &Observed, resource: &v1::Resource, mark: &v1::OutdatedReplica) -> bool {
    let behind = resource.replicas.iter().find(|replica| replica.node == mark.node);
    let stays = |replica: &&v1::Replica| is_diskful(replica) && !replica.is_going();
    let Some(behind) = behind.filter(stays) else { return false };
    let since =
        if is_planted(Defect::SyncedIgnoresNumber) { Revision::default() } else { mark.number().revision() };
    // Equal to a copy that is not behind itself; where somebody may write, to the writer's.
    resource
        .replicas
        .iter()
        .filter(|peer| peer.node != mark.node && is_diskful(peer) && outdated(resource, &peer.node).is_none())
        .filter(|peer| owner(resource).is_none_or(|owner| owner == peer.node || owner == mark.node))
        .any(|peer| {
            [(behind, peer), (peer, behind)].into_iter().all(|(own, other)| {
                seen_under(observed, &resource.name, own, since)
                    .is_some_and(|report| is_in_sync_with(resource, report, &other.node))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn behind() -> World {
        let mut world = World::attaching();
        let arbitration = world.resource.arbitration.get_or_insert_default();
        arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 45 }];
        for node in ["n1", "n2"] {
            world.report(node).revision = 45;
        }
        world
    }

    #[test]
    fn synced_needs_both_sides_under_the_marks_number() {
        let world = behind();
        assert_eq!(
            decide(&world.state(), &world.observed()),
            [Command::Synced(v1::Synced {
                resource: "data".into(),
                resource_incarnation: 20,
                node: "n2".into(),
                number: 45,
            })]
        );

        type Change = fn(&mut World);
        let table: [(&str, Change); 12] = [
            ("the resource is still being created", |world| {
                world.resource.lifecycle = v1::ResourceLifecycle::Creating.into();
            }),
            ("n2 is to be removed", |world| {
                world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Leaving.into();
            }),
            ("n1 was seen before the mark", |world| world.report("n1").revision = 44),
            ("n2 was seen before the mark", |world| world.report("n2").revision = 44),
            ("n1 sees no connection", |world| world.report("n1").peers[0].connection = "Connecting".into()),
            ("n2 sees no connection", |world| world.report("n2").peers[0].connection = "StandAlone".into()),
            ("n2's disk is Inconsistent", |world| {
                world.report("n2").volumes[0].disk = v1::DiskState::Inconsistent.into();
            }),
            ("something is out of sync", |world| {
                world.report("n1").peers[0].volumes[0].out_of_sync_bytes = 4096;
            }),
            ("a resync runs", |world| {
                world.report("n2").peers[0].volumes[0].replication = "SyncTarget".into();
            }),
            ("n1 is not there", |world| world.go_offline("n1")),
            ("n2 has not let go of what n1 took", |world| {
                let revoked = v1::Attachment {
                    node: "n2".into(),
                    incarnation: 30,
                    lifecycle: v1::AttachmentLifecycle::Revoked.into(),
                    ..world.attachments[0].clone()
                };
                world.attachments.push(revoked);
            }),
            ("n1 is behind, too", |world| {
                let arbitration = world.resource.arbitration.get_or_insert_default();
                arbitration.outdated.push(v1::OutdatedReplica { node: "n1".into(), number: 99 });
            }),
        ];
        for (what, change) in table {
            let mut world = behind();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
