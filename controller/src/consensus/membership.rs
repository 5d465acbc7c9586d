//! What the leader does about the members: admits learners, makes them voters, lets removed ones go; and how the
//! first one begins.
//!
//! One task does this, one step after another, so that two changes never overlap. It must never decide which: that
//! is `next_change`.

use std::collections::BTreeSet;

use hawser_proto::v1;
use openraft::{ChangeMembers, Instant as _, RaftMetrics, async_runtime::watch::WatchReceiver};
use tokio::time::sleep;

use super::{
    handle::{Consensus, own_command},
    leadership::leads_openraft,
    next_change::{Situation, Step, next_step},
    start::Timing,
    types::TypeConfig,
};

/// A learner that lacks at most so many entries catches up while the change is committed.
const CAUGHT_UP: u64 = 500;
/// A removed leader looks again for who took over after so many of the longest election time-outs.
const HAND_OVER_ROUNDS: u32 = 4;

/// Who has answered this leader lately, and who of them has nearly the whole log; this member among them.
#[derive(Debug, Default)]
pub(super) struct Answering {
    pub(super) alive: BTreeSet<u64>,
    pub(super) caught_up: BTreeSet<u64>,
}

/// Takes step after step whenever this member leads.
pub(super) async fn lead_changes(consensus: Consensus) {
    let mut leadership = consensus.leadership();
    loop {
        let leading = leadership.borrow_and_update().leading_term();
        if leading.is_none() {
            if leadership.changed().await.is_err() {
                return;
            }
            continue;
        }
        let step = wanted_step(&consensus);
        let failed = match step {
            Some(step) => {
                let description = format!("{step:?}");
                tracing::info!(step = %description, "changing the members");
                match take(&consensus, step).await {
                    Ok(()) => continue,
                    Err(reason) => {
                        tracing::warn!(step = %description, %reason, "the members could not be changed yet");
                        true
                    }
                }
            }
            None => false,
        };
        // Progress of a learner is not an event, so a look now and then remains.
        let pause = consensus.inner.timing.election_max * if failed { 2 } else { 1 };
        tokio::select! {
            () = consensus.inner.membership_changed.notified() => {}
            () = sleep(pause) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

fn wanted_step(consensus: &Consensus) -> Option<Step> {
    let metrics = consensus.inner.metrics();
    // A change that is not committed yet: openraft would refuse another.
    if metrics.membership_config.log_id() != metrics.committed_membership_config.log_id() {
        return None;
    }
    with_situation(consensus, &metrics, next_step)
}

/// Decides by what this leader sees now.
pub(super) fn with_situation<T>(
    consensus: &Consensus,
    metrics: &RaftMetrics<TypeConfig>,
    decide: impl FnOnce(Situation<'_>) -> T,
) -> T {
    let answering = answering(metrics, consensus.inner.timing);
    decide(Situation {
        own: metrics.id,
        state: &consensus.view().state(),
        members: metrics.membership_config.membership(),
        alive: &answering.alive,
        caught_up: &answering.caught_up,
    })
}

/// Who answers, by this leader's numbers.
pub(super) fn answering(metrics: &RaftMetrics<TypeConfig>, timing: Timing) -> Answering {
    let last = metrics.last_log_index.unwrap_or(0);
    let heard = metrics.heartbeat.iter().flatten();
    let mut alive: BTreeSet<u64> = heard
        .filter(|(_, heard)| heard.is_some_and(|heard| heard.elapsed() < timing.election_max * 2))
        .map(|(raft_id, _)| *raft_id)
        .collect();
    alive.insert(metrics.id);
    let matched = metrics.replication.iter().flatten();
    // A member that is down may have all entries; making it a voter would cost the quorum.
    let mut caught_up: BTreeSet<u64> = matched
        .filter(|(raft_id, _)| alive.contains(raft_id))
        .filter(|(_, matched)| matched.is_some_and(|matched| matched.index + CAUGHT_UP >= last))
        .map(|(raft_id, _)| *raft_id)
        .collect();
    caught_up.insert(metrics.id);
    Answering { alive, caught_up }
}

async fn take(consensus: &Consensus, step: Step) -> Result<(), String> {
    let raft = &consensus.inner.raft;
    let change = match step {
        Step::FinishJoint => ChangeMembers::AddVoterIds(BTreeSet::new()),
        Step::Vote(raft_ids) => ChangeMembers::ReplaceAllVoters(raft_ids),
        Step::Forget(raft_id) => ChangeMembers::RemoveNodes(BTreeSet::from([raft_id])),
        Step::AddLearner(member) => {
            let added = raft.add_learner(member.raft_id, member.into(), false).await;
            return added.map(drop).map_err(|error| error.to_string());
        }
        Step::HandOver(successor) => {
            let limit = consensus.inner.timing.election_max * HAND_OVER_ROUNDS;
            return consensus.hand_over_to(successor, limit).await.map(drop);
        }
    };
    // True: who loses the vote goes on as a learner.
    raft.change_membership(change, true).await.map(drop).map_err(|error| error.to_string())
}

/// Commits the first command of the cluster that this member began, unless that was done before.
pub(super) async fn begin_cluster(consensus: Consensus) {
    let mut metrics = consensus.inner.raft.metrics();
    while !consensus.view().state().is_initialized() {
        let now = metrics.borrow_and_update().clone();
        if leads_openraft(&now)
            && let Err(reason) = commit_the_first(&consensus, now.current_term).await
        {
            tracing::warn!(%reason, "the cluster could not begin yet");
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn commit_the_first(consensus: &Consensus, term: u64) -> Result<(), String> {
    let identity = &consensus.inner.myself.identity;
    let command = v1::command::Command::InitializeCluster(v1::InitializeCluster {
        cluster_id: identity.cluster_id.clone(),
        name: identity.cluster_name.clone(),
        lineage: identity.lineage,
        first_member: Some(consensus.inner.myself.member()),
        numbers: identity.numbers.clone(),
    });
    let committed =
        consensus.propose_in_term(term, own_command(command)).await.map_err(|error| error.to_string())?;
    match committed.outcome.outcome {
        Some(v1::outcome::Outcome::Applied(_)) => Ok(()),
        other => Err(format!("the first command came to {other:?}")),
    }
}
