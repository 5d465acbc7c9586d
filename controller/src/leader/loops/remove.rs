//! A replica's removal is done once its satellite confirmed, under a document that ordered it, that nothing is
//! left. Absence from a report confirms nothing here.

use hawser_planted::{Defect, is_planted};
use hawser_proto::{
    ids::Revision,
    v1::{self, command::Command},
};
use hawser_state::State;

use crate::leader::observed::Observed;

/// `ConfirmReplicaRemoved` for each removal that has been confirmed.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    let removing = state.resources().flat_map(|resource| {
        let replicas = resource.replicas.iter();
        replicas
            .filter(|replica| replica.lifecycle() == v1::ReplicaLifecycle::Removing)
            .map(move |replica| (resource, replica))
    });
    removing
        .filter_map(|(resource, replica)| {
            let revision = removed_under(observed, resource, replica)?;
            Some(Command::ConfirmReplicaRemoved(v1::ConfirmReplicaRemoved {
                resource: resource.name.clone(),
                replica_incarnation: replica.incarnation,
                node: replica.node.clone(),
                revision: revision.get(),
            }))
        })
        .collect()
}

/// The revision of the orders under which nothing was left of a replica, if its node confirmed it in a session that
/// is open.
pub(crate) fn removed_under(
    observed: &Observed,
    resource: &v1::Resource,
    replica: &v1::Replica,
) -> Option<Revision> {
    let seen = observed.node(&replica.node).filter(|seen| seen.online)?;
    if is_planted(Defect::LateReportBelieved) && seen.removed.keys().any(|(name, _)| *name == resource.name) {
        return Some(replica.removing_since());
    }
    let revision = *seen.removed.get(&(resource.name.clone(), replica.incarnation()))?;
    (revision >= replica.removing_since()).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn deleting() -> World {
        let mut world = World::creating();
        world.resource.lifecycle = v1::ResourceLifecycle::Deleting.into();
        for replica in &mut world.resource.replicas {
            replica.lifecycle = v1::ReplicaLifecycle::Removing.into();
            replica.removing_since = 30;
        }
        world.remove("n1", 20, 31);
        world
    }

    #[test]
    fn a_confirmed_removal_is_passed_on_with_its_fences() {
        let world = deleting();
        assert_eq!(
            decide(&world.state(), &world.observed()),
            [Command::ConfirmReplicaRemoved(v1::ConfirmReplicaRemoved {
                resource: "data".into(),
                replica_incarnation: 20,
                node: "n1".into(),
                revision: 31,
            })]
        );
    }

    #[test]
    fn nothing_else_counts() {
        type Change = fn(&mut World);
        let table: [(&str, Change); 4] = [
            ("confirmed before the order", |world| world.remove("n1", 20, 29)),
            ("another incarnation was confirmed", |world| {
                world.resource.replicas[0].incarnation = 21;
            }),
            ("the session has ended", |world| world.go_offline("n1")),
            ("nobody ordered it", |world| {
                world.resource.replicas[0].lifecycle = v1::ReplicaLifecycle::Ready.into();
            }),
        ];
        for (what, change) in table {
            let mut world = deleting();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
