//! Taking a resource over, in two steps: a node claims it, and once it was seen to keep the owner away it gets the right.
//!
//! The claim outdates nobody. Were the right given at once, an owner that has crashed and is back before the new one
//! has heard of it would be the source of a sync to it: then one copy would be outdated and the other incomplete. The
//! right must never go to a node that did not claim it, nor under another claim than the one that it was seen under.

use hawser_proto::{
    ids::{OutdateNumber, OwnerGeneration},
    v1::{
        Arbitration, Attachment, AttachmentLifecycle, ClaimTakeOver, OperationKind, OperationReason,
        OperationState, Resource, TakeOver, TakeOverClaim, WithdrawClaim,
    },
};

use super::{
    arbitration::{check_may_own, in_words, with_outdated},
    attachment, resource,
};
use crate::{
    operations,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Notes that `node` is about to take the resource over. Claimed again, the claim stands as it is: what the node was
/// seen to do under it goes on counting.
pub(super) fn claim(transaction: &mut Transaction<'_>, command: &ClaimTakeOver) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let resource = attachment::attachable(transaction, &meant.name)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    check_may_take(transaction, &resource, &arbitration, &command.node, command.from_generation())?;
    match &arbitration.claim {
        Some(claim) if claim.node == command.node => return Ok(Success::DONE),
        Some(claim) => {
            return Err(Denial::precondition(format!(
                "node {} is about to take resource {} over: attach it there, or ask again in a moment",
                claim.node, resource.name
            )));
        }
        None => {}
    }
    let claim = TakeOverClaim { node: command.node.clone(), number: transaction.index };
    let arbitration = Some(Arbitration { claim: Some(claim), ..arbitration });
    transaction.put_resource(Resource { arbitration, ..resource })?;
    Ok(Success::DONE)
}

/// Ends the claim that `number` names. Where it has ended already, or another one stands, nothing changes.
pub(super) fn withdraw_claim(transaction: &mut Transaction<'_>, command: &WithdrawClaim) -> Verdict {
    let resource = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    if arbitration.claim.as_ref().is_some_and(|claim| claim.number() == command.number()) {
        let arbitration = Some(Arbitration { claim: None, ..arbitration });
        transaction.put_resource(Resource { arbitration, ..resource })?;
    }
    Ok(Success::DONE)
}

/// Gives the resource to the node that claimed it, and outdates the copy of the one that had it, in one step.
pub(super) fn take_over(transaction: &mut Transaction<'_>, command: &TakeOver) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let resource = attachment::attachable(transaction, &meant.name)?;
    let mode = attachment::checked_mode(command.mode)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    if arbitration.owner == command.node
        && let Some(existing) = attachment::existing(transaction, &resource.name, &command.node)?
    {
        return Ok(existing);
    }
    check_may_take(transaction, &resource, &arbitration, &command.node, command.from_generation())?;
    let is_claimed = arbitration
        .claim
        .as_ref()
        .is_some_and(|claim| claim.node == command.node && claim.number() == command.claim_number());
    if !is_claimed {
        return Err(Denial::stale(format!(
            "resource {}: the claim {} of node {} does not stand",
            resource.name, command.claim_number, command.node
        )));
    }

    let old_owner = arbitration.owner.clone();
    let arbitration = with_outdated(arbitration, &old_owner, OutdateNumber::new(transaction.index));
    revoke(transaction, &resource.name, &old_owner, &command.node);
    let resource = Resource { arbitration: Some(arbitration), ..resource };
    let granted = attachment::grant(transaction, resource, &command.node, mode)?;
    Ok(Success { taken_over_from: old_owner, ..granted })
}

/// Whether another node holds the resource at that generation, and `node` may have it.
fn check_may_take(
    transaction: &Transaction<'_>,
    resource: &Resource,
    arbitration: &Arbitration,
    node: &str,
    from_generation: OwnerGeneration,
) -> Verdict<()> {
    let is_held = !arbitration.owner.is_empty() && arbitration.owner != node;
    if !is_held || arbitration.generation() != from_generation {
        return Err(Denial::stale(format!("resource {}: {}", resource.name, in_words(arbitration))));
    }
    attachment::existing(transaction, &resource.name, node)?;
    check_may_own(transaction, resource, node)
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

#[cfg(test)]
mod tests;
