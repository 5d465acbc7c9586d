//! What a report proves. The loops' shared vocabulary, so that no loop believes less than another.
//!
//! A report counts only under a document at least as new as what it is to prove something about: the
//! satellite notes the document it has accepted before it asks the kernel. It must never count what it cannot
//! see.

use hawser_proto::{ids::Revision, v1};

use crate::leader::observed::Observed;

/// DRBD's word for a connection that carries data.
const CONNECTED: &str = "Connected";
/// DRBD's word for an end that neither is connected nor tries to be.
const STANDALONE: &str = "StandAlone";
/// DRBD's word for a replication without a resync under way.
const ESTABLISHED: &str = "Established";

/// The report of a replica that is there, if it was seen under a document of this revision or a later one.
#[must_use]
pub fn seen_under<'a>(
    observed: &'a Observed,
    resource: &str,
    replica: &v1::Replica,
    revision: Revision,
) -> Option<&'a v1::ReplicaObserved> {
    stated_under(observed, resource, replica, revision)
        .filter(|report| report.presence() == v1::Presence::Present)
}

/// What its node says of a replica under a document of this revision or a later one, whatever of the replica is
/// there. Only for what the report states as certain, unknown or absent by itself.
#[must_use]
pub fn stated_under<'a>(
    observed: &'a Observed,
    resource: &str,
    replica: &v1::Replica,
    revision: Revision,
) -> Option<&'a v1::ReplicaObserved> {
    observed
        .report(&replica.node, resource, replica.incarnation())
        .filter(|report| report.revision() >= revision)
}

/// Whether DRBD is among the resource's layers.
#[must_use]
pub fn is_replicated(resource: &v1::Resource) -> bool {
    resource.layers.contains(&v1::Layer::Drbd.into())
}

/// Whether its kernel lets the node write: without DRBD it always does.
#[must_use]
pub fn can_write(resource: &v1::Resource, report: &v1::ReplicaObserved) -> bool {
    !is_replicated(resource) || report.role() == v1::DrbdRole::Primary
}

/// Whether a replica has a copy of the data.
#[must_use]
pub fn is_diskful(replica: &v1::Replica) -> bool {
    replica.kind() == v1::ReplicaKind::Diskful
}

/// The standing mark that a node's copy is behind, if there is one.
#[must_use]
pub fn outdated<'a>(resource: &'a v1::Resource, node: &str) -> Option<&'a v1::OutdatedReplica> {
    resource.arbitration.as_ref()?.outdated.iter().find(|outdated| outdated.node == node)
}

/// The node that may write, if any may.
#[must_use]
pub fn owner(resource: &v1::Resource) -> Option<&str> {
    resource
        .arbitration
        .as_ref()
        .map(|arbitration| arbitration.owner.as_str())
        .filter(|owner| !owner.is_empty())
}

/// A volume's disk as the report shows it.
#[must_use]
pub fn disk(report: &v1::ReplicaObserved, volume: u32) -> v1::DiskState {
    let volume = report.volumes.iter().find(|observed| observed.number == volume);
    volume.map_or(v1::DiskState::Unspecified, v1::VolumeObserved::disk)
}

/// Every volume's own disk is UpToDate.
#[must_use]
pub fn is_up_to_date(resource: &v1::Resource, report: &v1::ReplicaObserved) -> bool {
    !resource.volumes.is_empty()
        && resource.volumes.iter().all(|volume| disk(report, volume.number) == v1::DiskState::UpToDate)
}

/// The report's view of a peer, if the connection to it carries data.
#[must_use]
pub fn connected<'a>(report: &'a v1::ReplicaObserved, peer: &str) -> Option<&'a v1::PeerObserved> {
    report.peers.iter().find(|observed| observed.node == peer && observed.connection == CONNECTED)
}

/// Whether the report's node lets nothing come from the peer: it neither has a connection to it nor tries to have one.
/// Only of a replica whose disks were seen in the kernel: where nothing was seen there are no peers either.
#[must_use]
pub fn keeps_away(report: &v1::ReplicaObserved, peer: &str) -> bool {
    let seen = report.peers.iter().find(|observed| observed.node == peer);
    seen.is_none_or(|observed| observed.connection == STANDALONE)
}

/// Connected to the peer, its disks UpToDate as well, nothing out of sync and no resync under way.
#[must_use]
pub fn is_in_sync_with(resource: &v1::Resource, report: &v1::ReplicaObserved, peer: &str) -> bool {
    is_up_to_date(resource, report)
        && connected(report, peer).is_some_and(|peer| {
            resource.volumes.iter().all(|volume| {
                peer.volumes.iter().find(|seen| seen.number == volume.number).is_some_and(|seen| {
                    seen.disk() == v1::DiskState::UpToDate
                        && seen.replication == ESTABLISHED
                        && seen.out_of_sync_bytes == 0
                })
            })
        })
}
