//! Raft as the arbiter of two replicas: who may write, and whose copy is known to be behind.
//!
//! The rules of this file, on which every acknowledged write rests:
//! * a copy that is not outdated holds every acknowledged write; at least one such copy is left, always;
//! * whoever goes on without a peer has had it outdated first;
//! * an outdated copy never gets an owner, until the very outdating that stands is answered by a sync.
//!
//! It must never weigh who asked first, or what anybody observed: its own records decide alone.

use hawser_proto::{
    names,
    v1::{
        Arbitration, Attachment, AttachmentLifecycle, OperationKind, OperationReason, OperationState,
        Outdate, OutdatedReplica, RejectionReason, ReplicaKind, Resource, Synced, TakeOver,
    },
};

use super::{attachment, resource};
use crate::{
    operations,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Notes that a copy falls behind: at the word of the leader, of the copy's own node, or of the owner, which
/// then goes on without it. It gets a new number even if it is outdated already: the link broke
/// again, and a sync seen before that proves nothing any more.
///
/// The last copy that is not outdated is never outdated, whoever asks: not by the leader's own proposal,
/// and not by the owner for itself when its disk fails. Where another such copy is left the owner's own
/// may be outdated; it remains the owner, for it goes on writing through its peer, but it can no longer
/// have that peer outdated.
pub(super) fn outdate(transaction: &mut Transaction<'_>, command: &Outdate) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation)?;
    let resource = attachment::attachable(transaction, &meant.name)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    check_diskful(&resource, &command.node)?;
    // About its own copy a node needs no right: nobody knows better that it falls behind.
    let asks_about_a_peer = !command.owner.is_empty() && command.owner != command.node;
    let owns = command.owner == arbitration.owner && command.generation == arbitration.generation;
    if asks_about_a_peer && !owns {
        return Err(Denial::not_owner(format!(
            "node {} does not own resource {} at generation {}: {}",
            names::shown(&command.owner),
            resource.name,
            command.generation,
            in_words(&arbitration)
        )));
    }
    let another_is_left =
        diskful(&resource).any(|node| node != command.node && !is_outdated(&arbitration, node));
    if !another_is_left {
        return Err(Denial::outdated(format!(
            "the copy of resource {} on node {} is the last that is known to be complete",
            resource.name, command.node
        )));
    }
    let number = transaction.index;
    let arbitration = with_outdated(arbitration, &command.node, number);
    transaction.put_resource(Resource { arbitration: Some(arbitration), ..resource })?;
    Ok(Success::number(number))
}

/// Gives the resource to another node, and outdates the copy of the one that had it, in one step.
pub(super) fn take_over(transaction: &mut Transaction<'_>, command: &TakeOver) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation)?;
    let resource = attachment::attachable(transaction, &meant.name)?;
    let mode = attachment::checked_mode(command.mode)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    if arbitration.owner == command.node
        && let Some(existing) = attachment::existing(transaction, &resource.name, &command.node)?
    {
        return Ok(existing);
    }
    if arbitration.generation != command.from_generation || arbitration.owner.is_empty() {
        return Err(Denial::stale(format!("resource {}: {}", resource.name, in_words(&arbitration))));
    }
    attachment::existing(transaction, &resource.name, &command.node)?;
    check_may_own(transaction, &resource, &command.node)?;

    let old_owner = arbitration.owner.clone();
    let arbitration = with_outdated(arbitration, &old_owner, transaction.index);
    revoke(transaction, &resource.name, &old_owner, &command.node);
    let resource = Resource { arbitration: Some(arbitration), ..resource };
    let granted = attachment::grant(transaction, resource, &command.node, mode)?;
    Ok(Success { taken_over_from: old_owner, ..granted })
}

fn revoke(transaction: &mut Transaction<'_>, resource: &str, node: &str, taken_by: &str) {
    let Some(attachment) = transaction.state().attachment(resource, node).cloned() else { return };
    transaction.put_attachment(Attachment { lifecycle: AttachmentLifecycle::Revoked.into(), ..attachment });
    let reason = OperationReason {
        node: node.to_owned(),
        message: format!("node {taken_by} took the resource over"),
        ..OperationReason::default()
    };
    operations::end(
        transaction,
        OperationKind::Attach,
        (resource, node),
        OperationState::Failed,
        Some(reason),
    );
}

/// Clears the outdating that `number` names. Where another one stands by now, nothing is cleared and the
/// command is rejected; where none stands there is nothing to clear, and it is applied.
pub(super) fn synced(transaction: &mut Transaction<'_>, command: &Synced) -> Verdict {
    let resource = resource::named(transaction, &command.resource, command.resource_incarnation)?;
    let mut arbitration = resource.arbitration.clone().unwrap_or_default();
    check_diskful(&resource, &command.node)?;
    let Some(standing) = outdated_number(&arbitration, &command.node) else { return Ok(Success::DONE) };
    if standing != command.number {
        return Err(Denial::precondition(format!(
            "the copy of resource {} on node {} was outdated again by entry {standing}, after entry {}",
            resource.name, command.node, command.number
        )));
    }
    arbitration.outdated.retain(|outdated| outdated.node != command.node);
    transaction.put_resource(Resource { arbitration: Some(arbitration), ..resource })?;
    Ok(Success::DONE)
}

/// Whether `node` may become the owner: it has a complete copy.
pub(super) fn check_may_own(transaction: &Transaction<'_>, resource: &Resource, node: &str) -> Verdict<()> {
    if transaction.state().node(node).is_none() {
        return Err(Denial::not_found("node", format!("node {} does not exist", names::shown(node))));
    }
    check_diskful(resource, node)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let Some(number) = outdated_number(&arbitration, node) else { return Ok(()) };
    let complete: Vec<&str> = diskful(resource).filter(|node| !is_outdated(&arbitration, node)).collect();
    Err(Denial::outdated(format!(
        "the copy of resource {} on node {node} is behind since entry {number}: attach it on {}, or wait until {node} \
         has synced from there",
        resource.name,
        complete.join(" or ")
    )))
}

fn check_diskful(resource: &Resource, node: &str) -> Verdict<()> {
    if diskful(resource).any(|other| other == node) {
        return Ok(());
    }
    let nodes: Vec<&str> = diskful(resource).collect();
    Err(Denial::new(
        RejectionReason::Precondition,
        "node",
        format!(
            "resource {} has no copy on node {}: it has them on {}",
            resource.name,
            names::shown(node),
            nodes.join(", ")
        ),
    ))
}

fn diskful(resource: &Resource) -> impl Iterator<Item = &str> {
    let diskful = resource.replicas.iter().filter(|replica| replica.kind() == ReplicaKind::Diskful);
    diskful.map(|replica| replica.node.as_str())
}

fn outdated_number(arbitration: &Arbitration, node: &str) -> Option<u64> {
    arbitration.outdated.iter().find(|outdated| outdated.node == node).map(|outdated| outdated.number)
}

fn is_outdated(arbitration: &Arbitration, node: &str) -> bool {
    outdated_number(arbitration, node).is_some()
}

/// Ordered by node, so that equal sets have equal bytes.
fn with_outdated(mut arbitration: Arbitration, node: &str, number: u64) -> Arbitration {
    arbitration.outdated.retain(|outdated| outdated.node != node);
    arbitration.outdated.push(OutdatedReplica { node: node.to_owned(), number });
    arbitration.outdated.sort_by(|one, other| one.node.cmp(&other.node));
    arbitration
}

fn in_words(arbitration: &Arbitration) -> String {
    match arbitration.owner.as_str() {
        "" => format!("nobody owns it, after generation {}", arbitration.generation),
        owner => format!("node {owner} owns it at generation {}", arbitration.generation),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{ConfirmDetached, DeleteAttachment, DesiredAttachment, command::Command as Kind};

    use super::*;
    use crate::fixture::{Cluster, RESOURCE, create_attachment};

    fn incarnation(cluster: &Cluster) -> u64 {
        cluster.state.resource(RESOURCE).unwrap().incarnation
    }

    fn arbitration_of(cluster: &Cluster) -> Arbitration {
        cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap_or_default()
    }

    fn outdate(cluster: &Cluster, node: &str, (owner, generation): (&str, u64)) -> Kind {
        Kind::Outdate(Outdate {
            resource: RESOURCE.into(),
            resource_incarnation: incarnation(cluster),
            node: node.into(),
            owner: owner.into(),
            generation,
        })
    }

    fn take_over_by(cluster: &Cluster, node: &str, from_generation: u64) -> Kind {
        Kind::TakeOver(TakeOver {
            resource: RESOURCE.into(),
            resource_incarnation: incarnation(cluster),
            node: node.into(),
            from_generation,
            mode: 0,
        })
    }

    fn synced_by(cluster: &Cluster, node: &str, number: u64) -> Kind {
        Kind::Synced(Synced {
            resource: RESOURCE.into(),
            resource_incarnation: incarnation(cluster),
            node: node.into(),
            number,
        })
    }

    #[test]
    fn only_the_owner_of_the_present_generation_has_its_peer_outdated() {
        let asked = |owner, generation| {
            let mut cluster = Cluster::attached();
            let command = outdate(&cluster, "n2", (owner, generation));
            cluster.commit(command).outcome
        };
        let granted = crate::fixture::applied(asked("n1", 1));
        assert_eq!(granted.number, granted.revision);
        for (owner, generation) in [("n1", 0), ("n1", 2), ("stranger", 1)] {
            assert_eq!(
                crate::fixture::rejected(asked(owner, generation)).reason(),
                RejectionReason::NotOwner
            );
        }
    }

    #[test]
    fn a_node_may_always_tell_that_its_own_copy_falls_behind() {
        let mut cluster = Cluster::attached();
        let own = outdate(&cluster, "n2", ("n2", 0));
        cluster.applied(own);
        assert_eq!(cluster.reason(create_attachment("n2")), RejectionReason::Outdated);
    }

    #[test]
    fn nobody_outdates_the_last_complete_copy() {
        for owner in [("", 0), ("n1", 1)] {
            for (first, last) in [("n1", "n2"), ("n2", "n1")] {
                let mut cluster = Cluster::attached();
                let (first, last) = (outdate(&cluster, first, owner), outdate(&cluster, last, owner));
                cluster.applied(first);
                assert_eq!(cluster.reason(last), RejectionReason::Outdated);
            }
        }
    }

    #[test]
    fn an_owner_whose_disk_failed_stays_the_owner_and_cannot_outdate_its_peer() {
        let mut cluster = Cluster::attached();
        let own = outdate(&cluster, "n1", ("", 0));
        cluster.applied(own);
        assert_eq!(arbitration_of(&cluster).owner, "n1");
        let peer = outdate(&cluster, "n2", ("n1", 1));
        assert_eq!(cluster.reason(peer), RejectionReason::Outdated);
        let take_over = take_over_by(&cluster, "n2", 1);
        assert_eq!(cluster.applied(take_over).number, 2);
    }

    #[test]
    fn what_has_no_copy_or_another_incarnation_is_refused() {
        let mut cluster = Cluster::attached();
        let no_copy = outdate(&cluster, "n3", ("", 0));
        assert_eq!(cluster.reason(no_copy), RejectionReason::Precondition);
        let nowhere = take_over_by(&cluster, "n3", 1);
        assert_eq!(cluster.reason(nowhere), RejectionReason::NotFound);
        let another =
            Kind::Outdate(Outdate { resource: RESOURCE.into(), node: "n2".into(), ..Outdate::default() });
        assert_eq!(cluster.reason(another), RejectionReason::NotFound);
    }

    #[test]
    fn a_sync_answers_the_outdating_that_it_names_and_no_later_one() {
        let mut cluster = Cluster::attached();
        let command = outdate(&cluster, "n2", ("n1", 1));
        let first = cluster.applied(command.clone()).number;
        let second = cluster.applied(command).number;
        assert!(second > first, "the link broke again");
        for (number, clears) in [(first, false), (second + 1, false), (0, false), (second, true)] {
            let synced = synced_by(&cluster, "n2", number);
            if clears {
                cluster.applied(synced);
                assert_eq!(arbitration_of(&cluster).outdated, Vec::new());
            } else {
                assert_eq!(cluster.reason(synced), RejectionReason::Precondition);
                assert_eq!(arbitration_of(&cluster).outdated.len(), 1);
            }
        }
        let again = synced_by(&cluster, "n2", second);
        assert_eq!(cluster.commit(again).changes, Vec::new());
    }

    #[test]
    fn a_take_over_moves_the_right_and_outdates_the_loser() {
        let mut cluster = Cluster::attached();
        let take_over = take_over_by(&cluster, "n2", 1);
        let applied = cluster.applied(take_over);
        assert_eq!(applied.number, 2);
        let arbitration = arbitration_of(&cluster);
        assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("n2", 2));
        assert_eq!(arbitration.outdated, [OutdatedReplica { node: "n1".into(), number: cluster.index }]);
        let rendered = |node| cluster.state.document(node).unwrap().replicas[0].clone();
        assert_eq!(rendered("n1").attachment(), DesiredAttachment::Revoked);
        assert_eq!(rendered("n2").attachment(), DesiredAttachment::Attached);
        assert_eq!(rendered("n1").outdated_number, cluster.index);

        // The loser's helper is told no; the winner may go on alone.
        let loser = outdate(&cluster, "n2", ("n1", 1));
        assert_eq!(cluster.reason(loser), RejectionReason::NotOwner);
        let winner = outdate(&cluster, "n1", ("n2", 2));
        cluster.applied(winner);
        // The loser may not have it back before it has synced and let go.
        let back = take_over_by(&cluster, "n1", 2);
        assert_eq!(cluster.reason(back), RejectionReason::Precondition);
    }

    #[test]
    fn an_outdated_copy_takes_nothing_over() {
        let mut cluster = Cluster::attached();
        let go_on = outdate(&cluster, "n2", ("n1", 1));
        cluster.applied(go_on);
        let take_over = take_over_by(&cluster, "n2", 1);
        let rejected = cluster.rejected(take_over);
        assert_eq!(rejected.reason(), RejectionReason::Outdated);
        assert!(rejected.message.contains("wait until n2 has synced from there"), "{}", rejected.message);
    }

    #[test]
    fn a_take_over_from_another_generation_is_computed_anew() {
        let mut cluster = Cluster::attached();
        for generation in [0, 2] {
            let take_over = take_over_by(&cluster, "n2", generation);
            assert!(cluster.is_stale(take_over));
        }
        let mut cluster = Cluster::with_resource();
        let nobody_owns_it = take_over_by(&cluster, "n2", 0);
        assert!(cluster.is_stale(nobody_owns_it));
    }

    #[test]
    fn a_repeated_take_over_is_the_same_attachment() {
        let mut cluster = Cluster::attached();
        let take_over = take_over_by(&cluster, "n2", 1);
        let first = cluster.applied(take_over.clone());
        let again = cluster.applied(take_over);
        assert_eq!((first.operation, first.number), (again.operation, again.number));
    }

    #[test]
    fn the_loser_lets_go_without_touching_the_winners_right() {
        let mut cluster = Cluster::attached();
        let detach =
            Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: "n1".into() });
        let detaching = cluster.applied(detach.clone()).operation;
        let attachment_incarnation = cluster.state.attachment(RESOURCE, "n1").unwrap().incarnation;
        let take_over = take_over_by(&cluster, "n2", 1);
        cluster.applied(take_over);
        let taken = cluster.index;
        assert_eq!(cluster.reason(detach), RejectionReason::Precondition);
        let let_go = |revision| {
            let (resource, node) = (RESOURCE.into(), "n1".into());
            Kind::ConfirmDetached(ConfirmDetached { resource, node, attachment_incarnation, revision })
        };
        assert!(cluster.is_stale(let_go(taken - 1)));
        cluster.applied(let_go(taken));
        assert_eq!(arbitration_of(&cluster).owner, "n2");
        assert_eq!(cluster.state.operation(detaching).unwrap().state(), OperationState::Succeeded);
        assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Outdated);
    }

    #[test]
    fn the_losers_attachment_under_way_fails_with_the_reason() {
        let mut cluster = Cluster::with_resource();
        let attach = cluster.applied(create_attachment("n1")).operation;
        let take_over = take_over_by(&cluster, "n2", 1);
        cluster.applied(take_over);
        let operation = cluster.state.operation(attach).unwrap();
        assert_eq!(operation.state(), OperationState::Failed);
        assert!(operation.waits_for.as_ref().unwrap().message.contains("n2 took the resource over"));
    }
}
