//! A new resource becomes ready once every first replica was seen UpToDate and connected to every other. One that is
//! behind from the beginning, because its storage did not read zero, only has to be connected with its disk: its sync
//! goes on while others write already.
//!
//! From the confirmation on data may exist, so this must never count a replica that is merely on its way.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use super::evidence::{
    connected, disk, is_diskful, is_in_sync_with, is_replicated, is_up_to_date, outdated, seen_under,
};
use crate::leader::observed::Observed;

/// `ConfirmResourceReady` for each resource that has become ready.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    state
        .resources()
        .filter(|resource| resource.lifecycle() == v1::ResourceLifecycle::Creating)
        .filter(|resource| resource.replicas.iter().all(|replica| is_ready(observed, resource, replica)))
        .map(|resource| {
            Command::ConfirmResourceReady(v1::ConfirmResourceReady {
                resource: resource.name.clone(),
                incarnation: resource.incarnation,
            })
        })
        .collect()
}

/// Whether a first replica, and what it sees of its peers, is as it has to be before anybody may write.
pub(crate) fn is_ready(observed: &Observed, resource: &v1::Resource, replica: &v1::Replica) -> bool {
    let Some(report) = seen_under(observed, &resource.name, replica, resource.revision()) else {
        return false;
    };
    if !is_replicated(resource) {
        return resource.volumes.iter().all(|volume| {
            report
                .volumes
                .iter()
                .any(|seen| seen.number == volume.number && seen.size_bytes >= volume.size_bytes)
        });
    }
    let mut peers = resource.replicas.iter().filter(|peer| peer.node != replica.node);
    let has_to_sync = |replica: &v1::Replica| outdated(resource, &replica.node).is_some();
    if has_to_sync(replica) {
        has_its_disks(resource, report) && peers.all(|peer| connected(report, &peer.node).is_some())
    } else if is_diskful(replica) {
        is_up_to_date(resource, report)
            && peers.all(|peer| {
                if is_diskful(peer) && !has_to_sync(peer) {
                    is_in_sync_with(resource, report, &peer.node)
                } else {
                    connected(report, &peer.node).is_some()
                }
            })
    } else {
        peers.all(|peer| connected(report, &peer.node).is_some())
    }
}

/// Whether every volume's disk is there, complete or on its way to be.
fn has_its_disks(resource: &v1::Resource, report: &v1::ReplicaObserved) -> bool {
    let is_there = |disk| matches!(disk, v1::DiskState::Inconsistent | v1::DiskState::UpToDate);
    !resource.volumes.is_empty()
        && resource.volumes.iter().all(|volume| is_there(disk(report, volume.number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    #[test]
    fn ready_needs_every_replica_seen_in_sync_under_the_resources_revision() {
        let ready = World::creating();
        assert_eq!(
            decide(&ready.state(), &ready.observed()),
            [Command::ConfirmResourceReady(v1::ConfirmResourceReady {
                resource: "data".into(),
                incarnation: 20
            })]
        );

        type Change = fn(&mut World);
        let table: [(&str, Change); 9] = [
            ("n2 is not connected to the leader", |world| world.go_offline("n2")),
            ("n2 was seen under an older document", |world| world.report("n2").revision = 19),
            ("n2 reports another incarnation", |world| world.report("n2").replica_incarnation = 19),
            ("n2's disk is Inconsistent", |world| {
                world.report("n2").volumes[0].disk = v1::DiskState::Inconsistent.into();
            }),
            ("n2 reports no volume", |world| world.report("n2").volumes.clear()),
            ("n2 sees no peer", |world| world.report("n2").peers.clear()),
            ("the connection is not there", |world| {
                world.report("n1").peers[0].connection = "Connecting".into()
            }),
            ("a resync runs", |world| {
                world.report("n1").peers[0].volumes[0].replication = "SyncSource".into();
            }),
            ("it is ready already", |world| {
                world.resource.lifecycle = v1::ResourceLifecycle::Ready.into();
            }),
        ];
        for (what, change) in table {
            let mut world = World::creating();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }

    #[test]
    fn one_that_has_to_sync_from_the_beginning_needs_its_disk_and_a_connection() {
        let syncing = || {
            let mut world = World::creating();
            let arbitration = world.resource.arbitration.get_or_insert_default();
            arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 20 }];
            world.report("n1").peers[0].volumes[0].replication = "SyncSource".into();
            world.report("n1").peers[0].volumes[0].disk = v1::DiskState::Inconsistent.into();
            world.report("n2").volumes[0].disk = v1::DiskState::Inconsistent.into();
            world
        };
        let world = syncing();
        assert_eq!(decide(&world.state(), &world.observed()).len(), 1);

        type Change = fn(&mut World);
        let table: [(&str, Change); 4] = [
            ("n2 has no disk", |world| {
                world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into();
            }),
            ("n1 is not complete", |world| {
                world.report("n1").volumes[0].disk = v1::DiskState::Inconsistent.into();
            }),
            ("n2 does not see n1", |world| world.report("n2").peers[0].connection = "Connecting".into()),
            ("n1 does not see n2", |world| world.report("n1").peers[0].connection = "Connecting".into()),
        ];
        for (what, change) in table {
            let mut world = syncing();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }

    #[test]
    fn a_single_replica_needs_no_peer_and_plain_storage_no_disk_state() {
        let mut world = World::creating();
        world.resource.replicas.truncate(1);
        world.report("n1").peers.clear();
        assert_eq!(decide(&world.state(), &world.observed()).len(), 1);

        world.resource.layers = vec![v1::Layer::Storage.into()];
        world.report("n1").volumes[0].disk = v1::DiskState::Unspecified.into();
        assert_eq!(decide(&world.state(), &world.observed()).len(), 1);
        world.report("n1").volumes[0].size_bytes = 0;
        assert_eq!(decide(&world.state(), &world.observed()), []);
    }
}
