//! What this member knows of consensus, for `hawser cluster status` and the metrics.

use hawser_proto::v1;

/// A member as this one sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    /// Who it is.
    pub member: v1::Member,
    /// Announced, learner, voter or leaving.
    pub role: v1::MemberRole,
    /// Why it does not vote, for people; empty for a voter that stays.
    pub reason: String,
    /// Log index up to which its log equals the leader's. Known to the leader alone.
    pub matched: Option<u64>,
}

/// This member's numbers. Taken from memory, without asking anybody.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// This member.
    pub member: v1::Member,
    /// Id of the cluster that the store belongs to.
    pub cluster_id: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// The cluster's lineage, as the store says.
    pub lineage: u64,
    /// The current term.
    pub term: u64,
    /// Raft id of the leader; `None` if none is known.
    pub leader: Option<u64>,
    /// Log index of the last entry in the log.
    pub last_log: u64,
    /// Log index of the last committed entry that this member knows.
    pub committed: u64,
    /// Log index of the last applied entry.
    pub applied: u64,
    /// Log index up to which the newest snapshot goes; 0 without one.
    pub snapshot: u64,
    /// Log index up to which the log was purged; 0 if it was not.
    pub purged: u64,
    /// A leader: a majority answered within the lease. Others: the leader was heard within the longest
    /// election time-out.
    pub has_quorum: bool,
    /// False once consensus has stopped for good, e.g. because the store failed.
    pub running: bool,
    /// A change of the voters is under way: both the old and the new ones have to agree.
    pub changing_voters: bool,
    /// Announced, learning, voting and leaving members, by raft id.
    pub members: Vec<MemberStatus>,
}
