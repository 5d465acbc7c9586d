//! The data of a replica that leaves may go once the others were seen to have let go of it, under the documents that
//! told them to, and one of them has a copy that can be used.
//!
//! Until then it is the copy that a person could still fall back to, so doubt means waiting.

use hawser_proto::{
    ids::Revision,
    v1::{self, command::Command},
};
use hawser_state::State;

use super::evidence::{disk, is_diskful, outdated, stated_under};
use crate::leader::observed::Observed;

/// `ReleaseReplica` for each replica that the others have let go of.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    let leaving = state.resources().flat_map(|resource| {
        let replicas = resource.replicas.iter();
        replicas
            .filter(|replica| replica.lifecycle() == v1::ReplicaLifecycle::Leaving)
            .map(move |replica| (resource, replica))
    });
    leaving
        .filter_map(|(resource, replica)| {
            let revision = let_go_under(observed, resource, replica)?;
            // On a lost node there is nothing to fall back to.
            let is_lost = state.node(&replica.node).is_some_and(v1::Node::is_lost);
            (is_lost || has_usable_copy_beside(observed, resource, &replica.node)).then(|| {
                Command::ReleaseReplica(v1::ReleaseReplica {
                    resource: resource.name.clone(),
                    replica_incarnation: replica.incarnation,
                    node: replica.node.clone(),
                    revision: revision.get(),
                })
            })
        })
        .collect()
}

/// The replicas that stay, but for that on `node`.
pub(crate) fn staying<'a>(
    resource: &'a v1::Resource,
    node: &'a str,
) -> impl Iterator<Item = &'a v1::Replica> {
    use v1::ReplicaLifecycle::{Creating, Ready};
    resource
        .replicas
        .iter()
        .filter(move |peer| peer.node != node && matches!(peer.lifecycle(), Creating | Ready))
}

/// Whether the node of a replica that stays was seen to have let go of one that leaves, and under which revision.
pub(crate) fn has_let_go(
    observed: &Observed,
    resource: &v1::Resource,
    peer: &v1::Replica,
    leaving: &v1::Replica,
) -> Option<Revision> {
    stated_under(observed, &resource.name, peer, leaving.removing_since())
        .filter(|report| report.follows_document)
        .map(v1::ReplicaObserved::revision)
}

/// The lowest revision under which all that stay were seen to have let go; `None` if not all were, or none stays.
fn let_go_under(observed: &Observed, resource: &v1::Resource, leaving: &v1::Replica) -> Option<Revision> {
    let seen: Option<Vec<Revision>> =
        staying(resource, &leaving.node).map(|peer| has_let_go(observed, resource, peer, leaving)).collect();
    seen?.into_iter().min()
}

/// Whether a copy that is not behind, on another node than `node`, was seen with disks that can be used.
///
/// Consistent is enough: that of a copy which Raft does not hold for behind has every acknowledged write, and waits
/// only for a peer to compare with.
#[must_use]
pub fn has_usable_copy_beside(observed: &Observed, resource: &v1::Resource, node: &str) -> bool {
    let complete =
        staying(resource, node).filter(|peer| is_diskful(peer) && outdated(resource, &peer.node).is_none());
    complete
        .filter_map(|peer| observed.report(&peer.node, &resource.name, peer.incarnation()))
        .any(|report| is_usable(resource, report))
}

fn is_usable(resource: &v1::Resource, report: &v1::ReplicaObserved) -> bool {
    let usable = |volume: &v1::Volume| {
        matches!(disk(report, volume.number), v1::DiskState::UpToDate | v1::DiskState::Consistent)
    };
    !resource.volumes.is_empty() && resource.volumes.iter().all(usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn leaving() -> World {
        let mut world = World::attaching();
        world.resource.replicas[0].lifecycle = v1::ReplicaLifecycle::Ready.into();
        let leaving = &mut world.resource.replicas[1];
        leaving.lifecycle = v1::ReplicaLifecycle::Leaving.into();
        leaving.removing_since = 50;
        let arbitration = world.resource.arbitration.get_or_insert_default();
        arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 50 }];
        let survivor = world.report("n1");
        survivor.revision = 51;
        survivor.peers.clear();
        world
    }

    #[test]
    fn data_goes_once_everybody_else_has_let_go_and_has_a_usable_copy() {
        let expected = [Command::ReleaseReplica(v1::ReleaseReplica {
            resource: "data".into(),
            replica_incarnation: 20,
            node: "n2".into(),
            revision: 51,
        })];
        let mut world = leaving();
        assert_eq!(decide(&world.state(), &world.observed()), expected);
        world.go_offline("n2");
        assert_eq!(decide(&world.state(), &world.observed()), expected, "it need not be there itself");
        world.report("n1").volumes[0].disk = v1::DiskState::Consistent.into();
        assert_eq!(decide(&world.state(), &world.observed()), expected, "n1 has met nobody since it booted");

        type Change = fn(&mut World);
        let table: [(&str, Change); 7] = [
            ("n1 was seen before it was told", |world| world.report("n1").revision = 49),
            ("n1's kernel still knows n2", |world| world.report("n1").follows_document = false),
            ("n1 is away", |world| world.go_offline("n1")),
            ("n1 has not reported", |world| world.seen("n1").complete = false),
            ("n1's disk has failed", |world| {
                world.report("n1").volumes[0].disk = v1::DiskState::Failed.into();
            }),
            ("n1 is behind", |world| {
                let arbitration = world.resource.arbitration.get_or_insert_default();
                arbitration.outdated.push(v1::OutdatedReplica { node: "n1".into(), number: 44 });
            }),
            ("nobody told n2 to leave", |world| {
                world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Ready.into();
            }),
        ];
        for (what, change) in table {
            let mut world = leaving();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
