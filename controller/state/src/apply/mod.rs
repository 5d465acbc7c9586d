//! Takes one command of the log to its outcome; one file per noun.
//!
//! It must never panic, whatever the command holds, and never change anything when it denies one.

mod arbitration;
mod attachment;
mod cluster;
mod group;
mod idempotency;
mod lost;
mod member;
mod node;
mod operation;
mod options;
mod pool;
mod replica;
mod resource;
mod restore;
mod take_over;

use hawser_proto::v1::{Change, Command, Outcome, command};

use crate::{
    state::State,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict, outcome},
};

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The committed answer.
    pub outcome: Outcome,
    /// The objects that changed, for watchers.
    pub changes: Vec<Change>,
    /// This controller's state is not the cluster's: it has to stop.
    pub divergence: Option<Divergence>,
}

/// A committed checksum that differs from this controller's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state at revision {revision} differs from the cluster's (here {own}, there {committed}): \
     stop this controller, and let it join anew with an empty data directory"
)]
pub struct Divergence {
    /// Revision of the compared state.
    pub revision: u64,
    /// Checksum of this controller's state, in hexadecimal digits.
    pub own: String,
    /// Checksum that was committed.
    pub committed: String,
}

/// Applies the command at `index` of the log, which was proposed in `_term`, to the state.
///
/// Equal states and equal commands come to equal states and equal effects, on every controller and in
/// every release of one feature level.
pub fn apply(state: &mut State, index: u64, _term: u64, command: &Command) -> Effect {
    cluster::take_checkpoint(state, index);
    let divergence = cluster::divergence(state, command);
    // What keeps no answer needs no room for one: a full table must not keep a Primary frozen.
    let answered = idempotency::keeps_its_answer(command)
        .then(|| idempotency::recall(state, command.request.as_ref()))
        .flatten();
    let (outcome, changes) = match answered {
        Some(outcome) => (outcome, Vec::new()),
        None => carry_out(state, index, command),
    };
    state.set_revision(index);
    Effect { outcome, changes, divergence }
}

fn carry_out(state: &mut State, index: u64, command: &Command) -> (Outcome, Vec<Change>) {
    let mut transaction = Transaction::begin(state, index, command.at_unix_ms);
    let verdict = dispatch(&mut transaction, command);
    let changes = match &verdict {
        Ok(_) => {
            let (after, changes) = transaction.commit();
            *state = after;
            changes
        }
        Err(_) => Vec::new(),
    };
    let outcome = outcome(verdict, index);
    if let Some(request) = &command.request
        && idempotency::keeps_its_answer(command)
    {
        idempotency::remember(state, request, &outcome);
    }
    (outcome, changes)
}

fn dispatch(transaction: &mut Transaction<'_>, command: &Command) -> Verdict {
    use command::Command as C;
    let Some(command) = &command.command else {
        return Err(Denial::invalid("command", "the command is of a kind that this release does not know"));
    };
    if !transaction.state().is_initialized() && !matches!(command, C::InitializeCluster(_)) {
        return Err(Denial::precondition("the cluster is not initialized: run `hawser cluster init` first"));
    }
    restore::check_settled(transaction.state(), command)?;
    match command {
        C::InitializeCluster(command) => cluster::initialize(transaction, command),
        C::AnnounceMember(command) => member::announce(transaction, command),
        C::RecordMemberJoined(command) => member::record_joined(transaction, command),
        C::RemoveMember(command) => member::remove(transaction, command),
        C::Tick(command) => cluster::tick(transaction, command),
        C::RaiseFeatureLevel(command) => cluster::raise_feature_level(transaction, command),
        C::Checksum(_) => Ok(Success::DONE),

        C::CreateNode(command) => node::create(transaction, command),
        C::DeleteNode(command) => node::delete(transaction, command),
        C::RecordNodeFacts(command) => node::record_facts(transaction, command),
        C::NodeLost(command) => lost::lost(transaction, command),
        C::RecordHeld(command) => restore::record_held(transaction, command),
        C::ForgetHeld(command) => restore::forget_held(transaction, command),
        C::CreatePool(command) => pool::create(transaction, command),
        C::DeletePool(command) => pool::delete(transaction, command),
        C::RecordPoolCapacity(command) => pool::record_capacity(transaction, command),
        C::CreateResourceGroup(command) => group::create(transaction, command),
        C::DeleteResourceGroup(command) => group::delete(transaction, command),

        C::CreateResource(command) => resource::create(transaction, command),
        C::ConfirmResourceReady(command) => resource::confirm_ready(transaction, command),
        C::DeleteResource(command) => resource::delete(transaction, command),

        C::CreateReplica(command) => replica::create(transaction, command),
        C::DeleteReplica(command) => replica::delete(transaction, command),
        C::ReleaseReplica(command) => replica::release(transaction, command),
        C::ConfirmReplicaRemoved(command) => replica::confirm_removed(transaction, command),

        C::CreateAttachment(command) => attachment::create(transaction, command),
        C::ConfirmAttached(command) => attachment::confirm_attached(transaction, command),
        C::DeleteAttachment(command) => attachment::delete(transaction, command),
        C::ConfirmDetached(command) => attachment::confirm_detached(transaction, command),

        C::Outdate(command) => arbitration::outdate(transaction, command),
        C::ClaimTakeOver(command) => take_over::claim(transaction, command),
        C::WithdrawClaim(command) => take_over::withdraw_claim(transaction, command),
        C::TakeOver(command) => take_over::take_over(transaction, command),
        C::Synced(command) => arbitration::synced(transaction, command),

        C::RecordOperationReason(command) => operation::record_reason(transaction, command),
        C::CancelOperation(command) => operation::cancel(transaction, command),
    }
}
