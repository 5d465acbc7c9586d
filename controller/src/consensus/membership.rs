//! What the leader does about the members: admit learners, make them voters; and how the first one begins.
//!
//! One task does this, one step after another, so that two changes never overlap. Each step follows from
//! what is committed, so a new leader goes on where the last one ended. It must never make the number of
//! voters even: that tolerates no more failures than one voter less.

use std::collections::BTreeSet;

use hawser_proto::v1;
use openraft::{ChangeMembers, Instant as _, async_runtime::watch::WatchReceiver};
use tokio::time::sleep;

use super::{
    handle::{Consensus, own_command},
    leadership::leads_openraft,
    types::Membership,
};

/// More voters make every commit slower and tolerate failures that do not happen together.
const VOTERS_LIMIT: usize = 5;
/// A learner that lacks at most so many entries catches up while the change is committed.
const CAUGHT_UP: u64 = 500;

/// The next change.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// End the joint configuration that a leader left behind.
    FinishJoint,
    /// Send the log to a controller that has joined.
    AddLearner(v1::Member),
    /// Let these learners vote.
    Promote(BTreeSet<u64>),
}

/// The smallest next step; `None` if nothing is to be done.
fn next_step<'a>(
    announced: impl Iterator<Item = &'a v1::Member>,
    members: &Membership,
    caught_up: &BTreeSet<u64>,
) -> Option<Step> {
    if members.get_joint_config().len() > 1 {
        return Some(Step::FinishJoint);
    }
    let mut joined = announced.filter(|member| member.store_incarnation != 0);
    if let Some(new) = joined.find(|member| members.get_node(&member.raft_id).is_none()) {
        return Some(Step::AddLearner(new.clone()));
    }
    let voters = members.voter_ids().count();
    let ready: BTreeSet<u64> = members.learner_ids().filter(|id| caught_up.contains(id)).collect();
    let most = (voters + ready.len()).min(VOTERS_LIMIT);
    let odd = if most.is_multiple_of(2) { most.saturating_sub(1) } else { most };
    let wanted = odd.saturating_sub(voters);
    (wanted > 0).then(|| Step::Promote(ready.into_iter().take(wanted).collect()))
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
    let state = consensus.view().state();
    let last = metrics.last_log_index.unwrap_or(0);
    // A member that is down may have all entries; making it a voter would cost the quorum.
    let alive = |raft_id: &u64| {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(raft_id).copied().flatten());
        heard.is_some_and(|heard| heard.elapsed() < consensus.inner.timing.election_max * 2)
    };
    let caught_up = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(raft_id, _)| alive(raft_id))
        .filter(|(_, matched)| matched.is_some_and(|matched| matched.index + CAUGHT_UP >= last))
        .map(|(raft_id, _)| *raft_id)
        .collect();
    // A change that is not committed yet: openraft would refuse another.
    if metrics.membership_config.log_id() != metrics.committed_membership_config.log_id() {
        return None;
    }
    next_step(state.members(), metrics.membership_config.membership(), &caught_up)
}

async fn take(consensus: &Consensus, step: Step) -> Result<(), String> {
    let inner = &consensus.inner;
    match step {
        Step::FinishJoint => inner
            .raft
            .change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), true)
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
        Step::AddLearner(member) => inner
            .raft
            .add_learner(member.raft_id, member.into(), false)
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
        Step::Promote(raft_ids) => inner
            .raft
            .change_membership(ChangeMembers::AddVoterIds(raft_ids), true)
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::fixture::member;

    /// Announced, without a store.
    fn announced(raft_id: u64) -> v1::Member {
        v1::Member { store_incarnation: 0, ..member(raft_id) }
    }

    fn members(configurations: Vec<BTreeSet<u64>>, all: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> = all.iter().map(|id| (*id, member(*id).into())).collect();
        Membership::new(configurations, nodes).unwrap()
    }

    #[test]
    fn each_situation_has_its_next_step() {
        let one = || vec![BTreeSet::from([1])];
        let three = || vec![BTreeSet::from([1, 4, 6])];
        type Case = (&'static str, Vec<v1::Member>, Membership, Vec<u64>, Option<Step>);
        let cases: Vec<Case> = vec![
            ("alone", vec![member(1)], members(one(), &[1]), vec![], None),
            ("announced, not joined", vec![member(1), announced(4)], members(one(), &[1]), vec![], None),
            (
                "joined",
                vec![member(1), member(4)],
                members(one(), &[1]),
                vec![],
                Some(Step::AddLearner(member(4))),
            ),
            ("one learner makes two", vec![], members(one(), &[1, 4]), vec![4], None),
            (
                "two learners make three",
                vec![],
                members(one(), &[1, 4, 6]),
                vec![4, 6],
                Some(Step::Promote([4, 6].into())),
            ),
            ("one of them is behind", vec![], members(one(), &[1, 4, 6]), vec![4], None),
            (
                "of three learners the oldest two",
                vec![],
                members(one(), &[1, 4, 6, 9]),
                vec![4, 6, 9],
                Some(Step::Promote([4, 6].into())),
            ),
            (
                "three become five",
                vec![],
                members(three(), &[1, 4, 6, 8, 9]),
                vec![4, 6, 8, 9],
                Some(Step::Promote([8, 9].into())),
            ),
            (
                "an even number becomes odd",
                vec![],
                members(vec![[1, 4].into()], &[1, 4, 6]),
                vec![4, 6],
                Some(Step::Promote([6].into())),
            ),
            (
                "never more than five",
                vec![],
                members(vec![[1, 2, 3, 4, 5].into()], &[1, 2, 3, 4, 5, 6, 7]),
                vec![6, 7],
                None,
            ),
            (
                "a left-over joint configuration comes first",
                vec![member(9)],
                members(vec![[1].into(), [1, 4, 6].into()], &[1, 4, 6]),
                vec![4, 6],
                Some(Step::FinishJoint),
            ),
        ];
        for (what, announced, members, caught_up, expected) in cases {
            let caught_up = caught_up.into_iter().collect();
            assert_eq!(next_step(announced.iter(), &members, &caught_up), expected, "{what}");
        }
    }
}
