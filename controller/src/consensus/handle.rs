//! What the rest of the controller holds: this member, its numbers, and what follows from them.
//!
//! Asking for commits and reads is in `asking`, the end in `ending`. It must never hold on to openraft's
//! numbers, which would stop it.

use std::{future::Future, sync::Arc};

use hawser_process::wall_clock;
use hawser_proto::v1::{self, raft_service_server::RaftServiceServer};
use openraft::{RaftMetrics, async_runtime::watch::WatchReceiver};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ReadError,
    leadership::{Heard, Leadership, has_lease},
    log_store::LogStore,
    parties::Myself,
    roles,
    server::RaftDoor,
    snapshot::Snapshots,
    start::Timing,
    status::{MemberStatus, Status},
    transport::Transport,
    types::{HawserRaft, LogId, TypeConfig},
};
use crate::view::View;

/// This member's consensus. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raft: HawserRaft,
    pub(super) log: LogStore,
    pub(super) view: View,
    pub(super) snapshots: Snapshots,
    pub(super) myself: Arc<Myself>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) timing: Timing,
    pub(super) heard: Arc<Heard>,
    pub(super) leadership: watch::Receiver<Leadership>,
    /// Something about the members may have to be done.
    pub(super) membership_changed: Notify,
    /// Why this member is none any more or never will be; empty while it may be one.
    pub(super) given_up: watch::Sender<String>,
    pub(super) tasks: TaskTracker,
    pub(super) ending: CancellationToken,
}

impl Inner {
    /// openraft's numbers, copied at once: holding on to them would stop it.
    pub(super) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Runs the future until it is done or this member ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move { ending.run_until_cancelled_owned(task).await });
    }
}

impl Consensus {
    /// Who leads, as this member may rely on it.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// What this member has applied.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    /// This member.
    #[must_use]
    pub fn member(&self) -> v1::Member {
        self.inner.myself.member()
    }

    /// Learners and voters, by raft id.
    #[must_use]
    pub fn members(&self) -> Vec<v1::Member> {
        let members = self.inner.metrics().membership_config;
        members.membership().nodes().map(|(raft_id, node)| node.member(*raft_id)).collect()
    }

    /// Whether this member has been admitted, as learner or voter.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let own = self.inner.myself.identity.raft_id;
        self.inner.metrics().membership_config.membership().get_node(&own).is_some()
    }

    /// Whether this member leads, or heard its leader within the longest election time-outs that a change of
    /// leader takes.
    pub(super) fn hears_the_cluster(&self) -> bool {
        let leads = self.inner.leadership.borrow().leading_term().is_some();
        leads || (self.is_member() && self.inner.heard.within(self.inner.timing.election_max * 4))
    }

    /// This member's numbers.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.inner.metrics();
        let identity = &self.inner.myself.identity;
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let timing = self.inner.timing;
        Status {
            member: self.inner.myself.member(),
            cluster_id: identity.cluster_id.clone(),
            cluster_name: identity.cluster_name.clone(),
            lineage: identity.lineage,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            has_quorum: if metrics.state.is_leader() {
                has_lease(&metrics, timing)
            } else {
                metrics.current_leader.is_some() && self.inner.heard.within(timing.election_max)
            },
            running: metrics.running_state.is_ok(),
            changing_voters: metrics.committed_membership_config.get_joint_config().len() > 1
                || metrics.membership_config.get_joint_config().len() > 1,
            members: self.member_statuses(&metrics),
        }
    }

    /// Waits until this member's numbers are as wanted, and returns them.
    ///
    /// # Errors
    /// If consensus has ended.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Status) -> bool) -> Result<Status, ReadError> {
        let mut metrics = self.inner.raft.metrics();
        loop {
            // Marks the numbers as seen before they are looked at.
            drop(metrics.borrow_and_update());
            let status = self.status();
            if wanted(&status) {
                return Ok(status);
            }
            metrics.changed().await.map_err(|_| ReadError::Stopped)?;
        }
    }

    fn member_statuses(&self, metrics: &RaftMetrics<TypeConfig>) -> Vec<MemberStatus> {
        let matched = |raft_id: u64| {
            let matched = metrics.replication.as_ref()?.get(&raft_id).copied().flatten();
            matched.map(|matched| matched.index)
        };
        roles::statuses(&self.inner.view.state(), metrics.membership_config.membership(), matched)
    }

    /// The service for the other members, to be added to the gRPC server.
    #[must_use]
    pub fn raft_service(&self) -> RaftServiceServer<RaftDoor> {
        RaftDoor::service(self.clone())
    }
}

/// A command of consensus itself, which nobody else asked for.
pub(super) fn own_command(command: v1::command::Command) -> v1::Command {
    v1::Command { at_unix_ms: wall_clock::unix_ms(), request: None, command: Some(command) }
}
