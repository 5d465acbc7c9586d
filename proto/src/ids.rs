//! The numbers that fence orders and facts, each of its own type, so that one cannot be taken for another.
//!
//! On the wire and on disk they are plain `uint64`. The methods of [`v1`] below read them as what they are; the
//! program compares and passes on nothing else. This file must never make one kind into another, but for what the
//! kinds themselves say: a thing's incarnation, an `Outdate`'s number and a claim's are log indices, and so are revisions.
//!
//! ```
//! use hawser_proto::ids::{OutdateNumber, Revision};
//! fn was_seen_since(seen: Revision, mark: OutdateNumber) -> bool {
//!     seen >= mark.revision()
//! }
//! assert!(was_seen_since(Revision::new(45), OutdateNumber::new(45)));
//! ```
//!
//! ```compile_fail
//! use hawser_proto::ids::{Incarnation, Revision};
//! fn was_seen_since(seen: Revision, since: Revision) -> bool {
//!     seen >= since
//! }
//! was_seen_since(Revision::new(45), Incarnation::new(20));
//! ```

use std::fmt;

use crate::v1;

macro_rules! numbers {
    ($($(#[$document:meta])* $name:ident;)*) => {$(
        $(#[$document])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The number as it was sent or stored.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number to send or to store.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}

numbers! {
    /// Which making of a thing under one name: the log index that made it. 0: none.
    Incarnation;
    /// A log index that changed something, in one lineage.
    Revision;
    /// Of which history of the cluster a log index is. Rises only when a cluster is made, restored or recovered. 0:
    /// none.
    Lineage;
    /// Which change of a resource's owner. Rises with each and is never used twice. 0: nobody ever owned it.
    OwnerGeneration;
    /// Of an operation: the log index that started it.
    OperationId;
    /// Of an `Outdate`: the log index that committed it.
    OutdateNumber;
    /// Of a claim to take a resource over: the log index that committed it.
    ClaimNumber;
}

impl Incarnation {
    /// The revision that made it.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.0)
    }
}

impl OutdateNumber {
    /// The revision that committed it.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.0)
    }
}

impl ClaimNumber {
    /// The revision that committed it.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.0)
    }
}

impl Revision {
    /// The one before; 0 has none before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Which desired document: the order is that in which documents replace each other. Both numbers 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentVersion {
    /// The history that the revision belongs to.
    pub lineage: Lineage,
    /// The log index that last changed the document.
    pub revision: Revision,
}

impl DocumentVersion {
    /// Reads both numbers as they were sent.
    #[must_use]
    pub const fn new(lineage: u64, revision: u64) -> Self {
        Self { lineage: Lineage::new(lineage), revision: Revision::new(revision) }
    }
}

impl fmt::Display for DocumentVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "lineage {}, revision {}", self.lineage, self.revision)
    }
}

macro_rules! read_as {
    ($($message:ident { $($field:ident: $kind:ident),+ $(,)? })*) => {$(
        impl v1::$message {
            $(
                #[doc = concat!("`", stringify!($field), "`, as the kind of number that it is.")]
                #[must_use]
                pub const fn $field(&self) -> $kind {
                    $kind::new(self.$field)
                }
            )+
        }
    )*};
}

read_as! {
    ClusterRecord { lineage: Lineage, revision: Revision }
    Node { incarnation: Incarnation, document_revision: Revision }
    StoragePool { incarnation: Incarnation }
    ResourceGroup { incarnation: Incarnation }
    Resource { incarnation: Incarnation, revision: Revision }
    Replica { incarnation: Incarnation, removing_since: Revision }
    Arbitration { generation: OwnerGeneration }
    OutdatedReplica { number: OutdateNumber }
    TakeOverClaim { number: ClaimNumber }
    Attachment { incarnation: Incarnation, generation: OwnerGeneration, revision: Revision }
    Operation { id: OperationId, resource_incarnation: Incarnation }

    RecordNodeFacts { incarnation: Incarnation }
    NodeLost { incarnation: Incarnation }
    RecordPoolCapacity { incarnation: Incarnation }
    PlacedReplica { node_incarnation: Incarnation, pool_incarnation: Incarnation }
    CreateResource { computed_at_revision: Revision }
    ConfirmResourceReady { incarnation: Incarnation }
    ConfirmReplicaRemoved { replica_incarnation: Incarnation, revision: Revision }
    CreateReplica { resource_incarnation: Incarnation, computed_at_revision: Revision }
    ReleaseReplica { replica_incarnation: Incarnation, revision: Revision }
    ConfirmAttached { attachment_incarnation: Incarnation }
    ConfirmDetached { attachment_incarnation: Incarnation, revision: Revision }
    Outdate { resource_incarnation: Incarnation, generation: OwnerGeneration }
    TakeOver {
        resource_incarnation: Incarnation,
        from_generation: OwnerGeneration,
        claim_number: ClaimNumber,
    }
    ClaimTakeOver { resource_incarnation: Incarnation, from_generation: OwnerGeneration }
    WithdrawClaim { resource_incarnation: Incarnation, number: ClaimNumber }
    Synced { resource_incarnation: Incarnation, number: OutdateNumber }
    RecordOperationReason { id: OperationId }
    CancelOperation { id: OperationId }

    DesiredPool { incarnation: Incarnation }
    DesiredReplica {
        resource_incarnation: Incarnation,
        replica_incarnation: Incarnation,
        generation: OwnerGeneration,
    }
    RemovedReplica { resource_incarnation: Incarnation, replica_incarnation: Incarnation }
    HeldReplica { resource_incarnation: Incarnation, replica_incarnation: Incarnation }
    RestoreStatement { lineage: Lineage, from_lineage: Lineage, from_revision: Revision }
    RecordHeld { node_incarnation: Incarnation }
    ForgetHeld { replica_incarnation: Incarnation }
    UnknownObserved { replica_incarnation: Incarnation }

    OutdateRequest { lineage: Lineage, resource_incarnation: Incarnation, generation: OwnerGeneration }
    ConfirmOwnerRequest { lineage: Lineage, resource_incarnation: Incarnation, generation: OwnerGeneration }
    PoolObserved { lineage: Lineage, incarnation: Incarnation }
    OrderObserved { lineage: Lineage }
    ReplicaObserved { replica_incarnation: Incarnation, revision: Revision }
    RemovalConfirmed { replica_incarnation: Incarnation, revision: Revision }
}

macro_rules! document_version {
    ($($(#[$document:meta])* $message:ident;)*) => {$(
        impl v1::$message {
            $(#[$document])*
            #[must_use]
            pub const fn version(&self) -> DocumentVersion {
                DocumentVersion::new(self.lineage, self.revision)
            }
        }
    )*};
}

document_version! {
    /// Which document it is.
    DesiredDocument;
    /// Which document the satellite holds.
    Hello;
    /// Which document the satellite holds.
    DocumentAnswer;
    /// Under which document the replica was seen; none where nobody looked.
    ReplicaObserved;
    /// Under which document nothing was left of the replica.
    RemovalConfirmed;
    /// Which document named it last.
    HeldReplica;
    /// Under which document it was looked at.
    UnknownObserved;
}

/// The mark that a document sets on a copy that is behind; `None` where none stands.
const fn standing(number: u64) -> Option<OutdateNumber> {
    if number == 0 { None } else { Some(OutdateNumber::new(number)) }
}

impl v1::DesiredReplica {
    /// The `Outdate` that stands for this node's own replica.
    #[must_use]
    pub const fn outdated_number(&self) -> Option<OutdateNumber> {
        standing(self.outdated_number)
    }
}

impl v1::Node {
    /// Whether it was declared lost.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost_since != 0
    }
}

impl v1::Replica {
    /// Whether it is to be removed: its peers are to let go of it, and nothing may count on it.
    #[must_use]
    pub fn is_going(&self) -> bool {
        use v1::ReplicaLifecycle::{Leaving, Removed, Removing};
        matches!(self.lifecycle(), Leaving | Removing | Removed)
    }

    /// Whether its node had nothing of it when it reported after a restore.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.missing_since != 0
    }
}

impl v1::DesiredPeer {
    /// The `Outdate` that stands for this peer.
    #[must_use]
    pub const fn outdated_number(&self) -> Option<OutdateNumber> {
        standing(self.outdated_number)
    }

    /// The claim of this node for which that peer is kept away.
    #[must_use]
    pub const fn claim_number(&self) -> Option<ClaimNumber> {
        if self.claim_number == 0 { None } else { Some(ClaimNumber::new(self.claim_number)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_lineage_replaces_whatever_the_revision() {
        let versions = [(0, 0), (1, 7), (1, 8), (2, 1)].map(|(one, other)| DocumentVersion::new(one, other));
        assert!(versions.is_sorted());
        assert_eq!(versions[3].to_string(), "lineage 2, revision 1");
    }

    #[test]
    fn a_number_is_shown_as_it_is_sent() {
        assert_eq!(format!("{:>4}", Revision::new(45)), "  45");
        assert_eq!(v1::Operation { id: 21, ..Default::default() }.id().get(), 21);
        assert_eq!(v1::DesiredPeer::default().outdated_number(), None);
    }
}
