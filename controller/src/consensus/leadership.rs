//! Who leads, as this member may rely on it.
//!
//! A member counts itself as leader only from the moment it has applied an entry of its own term, in a cluster
//! that has begun, until its lease ends. It must never publish openraft's own idea of leading, which outlives a lost majority.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hawser_proto::v1;
use openraft::{Instant as _, RaftMetrics, async_runtime::watch::WatchReceiver};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    start::Timing,
    types::{HawserRaft, TypeConfig},
};
use crate::view::View;

/// This member's part in the current term.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// It leads: it has applied everything that was committed before its term, and a majority has answered
    /// it within the lease.
    Leader,
    /// It does not lead, or may not rely on it at the moment.
    Follower {
        /// Who leads, as far as this member knows.
        leader: Option<v1::Member>,
    },
}

/// The current reign.
#[derive(Clone, Debug, PartialEq)]
pub struct Leadership {
    /// Names the reign: a term has at most one leader.
    pub term: u64,
    /// This member's part in it.
    pub role: Role,
}

impl Leadership {
    /// The term, if this member leads in it.
    #[must_use]
    pub fn leading_term(&self) -> Option<u64> {
        matches!(self.role, Role::Leader).then_some(self.term)
    }

    /// Who leads, as far as known, if it is another member.
    #[must_use]
    pub fn leader(&self) -> Option<&v1::Member> {
        match &self.role {
            Role::Leader => None,
            Role::Follower { leader } => leader.as_ref(),
        }
    }
}

/// When the leader was last heard.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    /// It was heard now.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it was heard within the time.
    pub(super) fn within(&self, time: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|heard| heard.elapsed() < time)
    }
}

/// Publishes the leadership as it changes, for ever.
pub(super) async fn publish(
    raft: HawserRaft,
    view: View,
    heard: Arc<Heard>,
    timing: Timing,
    leadership: watch::Sender<Leadership>,
) {
    let mut metrics = raft.metrics();
    let mut server_metrics = raft.server_metrics();
    loop {
        let now = current(&metrics.borrow_watched().clone(), &view, &heard, timing);
        let leads = matches!(now.role, Role::Leader);
        leadership.send_if_modified(|published| {
            let changed = *published != now;
            if changed {
                tracing::info!(term = now.term, role = ?now.role, "leadership");
                *published = now;
            }
            changed
        });
        // The numbers change with every entry; they matter here only until this member leads.
        let changed = async { if leads { server_metrics.changed().await } else { metrics.changed().await } };
        tokio::select! {
            changed = changed => if changed.is_err() { return },
            // Leases end by the mere passing of time.
            () = sleep(timing.heartbeat / 2) => {}
        }
    }
}

/// The leadership according to openraft's numbers.
fn current(metrics: &RaftMetrics<TypeConfig>, view: &View, heard: &Heard, timing: Timing) -> Leadership {
    let term = metrics.current_term;
    if leads_openraft(metrics) && view.state().is_initialized() && has_lease(metrics, timing) {
        return Leadership { term, role: Role::Leader };
    }
    let leader = metrics
        .current_leader
        .filter(|leader| *leader != metrics.id && heard.within(timing.election_max * 2))
        .and_then(|leader| {
            let node = metrics.membership_config.membership().get_node(&leader)?;
            Some(node.member(leader))
        });
    Leadership { term, role: Role::Follower { leader } }
}

/// Whether this member leads and has applied everything that was committed before its term.
pub(super) fn leads_openraft(metrics: &RaftMetrics<TypeConfig>) -> bool {
    metrics.running_state.is_ok()
        && metrics.state.is_leader()
        && metrics.last_applied.is_some_and(|applied| applied.leader_id.term == metrics.current_term)
}

/// Whether a majority has answered this leader within the shortest time after which another may be elected.
pub(super) fn has_lease(metrics: &RaftMetrics<TypeConfig>, timing: Timing) -> bool {
    let mut voters = metrics.membership_config.membership().voter_ids();
    if voters.next() == Some(metrics.id) && voters.next().is_none() {
        return true;
    }
    metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < timing.election_max)
}
