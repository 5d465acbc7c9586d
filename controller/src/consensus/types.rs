//! The types that openraft is used with.
//!
//! Leader ids are the standard ones: a term has at most one leader, so that the term alone names a reign
//! and can fence orders. None of these types is ever stored or sent; `codec` converts them.

use std::fmt;

use hawser_proto::v1;
use openraft::{
    Raft, impls,
    type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf},
};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;

use super::machine::Machine;

openraft::declare_raft_types!(
    /// Hawser's choice of types for openraft.
    pub TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = Seeded,
);

/// Tokio, with what openraft draws by chance taken from a seed: a simulation replays it.
pub type Seeded = DeterministicRng<TokioRuntime>;

/// What the membership says of a member, beside its raft id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, as in its certificate.
    pub name: String,
    /// host:port of its gRPC endpoint.
    pub address: String,
    /// The one store that it may ever have.
    pub store_incarnation: u64,
}

impl Node {
    /// The member under this id.
    #[must_use]
    pub fn member(&self, raft_id: u64) -> v1::Member {
        let Self { name, address, store_incarnation } = self.clone();
        v1::Member { raft_id, name, address, store_incarnation }
    }
}

impl From<v1::Member> for Node {
    fn from(member: v1::Member) -> Self {
        let v1::Member { name, address, store_incarnation, .. } = member;
        Self { name, address, store_incarnation }
    }
}

/// A command on its way through the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal(pub v1::Command);

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A command may hold a secret; its size is all that a log line may tell.
        write!(formatter, "command of {} bytes", prost::Message::encoded_len(&self.0))
    }
}

/// What applying an entry answers: the outcome of a command, nothing for openraft's own entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub Option<v1::Outcome>);

/// An entry of the log.
pub type Entry = EntryOf<TypeConfig>;
/// Term and index of an entry.
pub type LogId = LogIdOf<TypeConfig>;
/// Whom a member votes for, and whether a majority did.
pub type Vote = VoteOf<TypeConfig>;
/// The members, and the entry that made them so.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// The members.
pub type Membership = openraft::Membership<u64, Node>;
/// What a snapshot contains.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
/// The running consensus.
pub type HawserRaft = Raft<TypeConfig, Machine>;

/// The log id of the entry at `index` that the leader of `term` made.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}
