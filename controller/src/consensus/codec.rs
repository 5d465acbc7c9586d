//! Between openraft's forms and the protobuf forms that are stored and sent.
//!
//! This is the only file that does so. openraft's own serialized forms must never reach a disk or a wire:
//! they are not stable between its releases.

use std::collections::{BTreeMap, BTreeSet};

use hawser_proto::v1::{self, stored_entry::Payload};
use openraft::EntryPayload;

use super::types::{Entry, LogId, Membership, Node, Proposal, SnapshotMeta, StoredMembership, Vote, log_id};

/// A stored or received form that lacks what it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The stored form of a vote.
#[must_use]
pub fn vote_to_stored(vote: &Vote) -> v1::StoredVote {
    v1::StoredVote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// The vote in a stored form.
#[must_use]
pub fn vote_from_stored(stored: &v1::StoredVote) -> Vote {
    if stored.committed {
        Vote::new_committed(stored.term, stored.candidate)
    } else {
        Vote::new(stored.term, stored.candidate)
    }
}

/// The stored form of a log id.
#[must_use]
pub fn log_id_to_stored(id: &LogId) -> v1::StoredLogId {
    v1::StoredLogId { term: id.leader_id.term, index: id.index }
}

/// The log id in a stored form.
#[must_use]
pub fn log_id_from_stored(stored: &v1::StoredLogId) -> LogId {
    log_id(stored.term, stored.index)
}

/// The stored form of a membership.
#[must_use]
pub fn membership_to_stored(membership: &Membership) -> v1::StoredMembership {
    v1::StoredMembership {
        configurations: membership
            .get_joint_config()
            .iter()
            .map(|voters| v1::StoredVoters { raft_ids: voters.iter().copied().collect() })
            .collect(),
        nodes: membership.nodes().map(|(raft_id, node)| node.member(*raft_id)).collect(),
    }
}

/// The membership in a stored form.
///
/// # Errors
/// If a voter is not among the members, or a set of voters is empty.
pub fn membership_from_stored(stored: v1::StoredMembership) -> Result<Membership, Malformed> {
    let configurations: Vec<BTreeSet<u64>> =
        stored.configurations.into_iter().map(|voters| voters.raft_ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, Node> =
        stored.nodes.into_iter().map(|member| (member.raft_id, member.into())).collect();
    Membership::new(configurations, nodes).map_err(|error| Malformed(format!("the members: {error}")))
}

/// The stored form of an entry.
#[must_use]
pub fn entry_to_stored(entry: &Entry) -> v1::StoredEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(v1::StoredBlank {}),
        EntryPayload::Normal(Proposal(command)) => Payload::Command(command.clone()),
        EntryPayload::Membership(membership) => Payload::Membership(membership_to_stored(membership)),
    };
    v1::StoredEntry { id: Some(log_id_to_stored(&entry.log_id)), payload: Some(payload) }
}

/// The entry in a stored form.
///
/// # Errors
/// If it has no id or a payload that this release does not know.
pub fn entry_from_stored(stored: v1::StoredEntry) -> Result<Entry, Malformed> {
    let id = stored.id.ok_or_else(|| Malformed("an entry without a log id".to_owned()))?;
    let log_id = log_id_from_stored(&id);
    let payload = match stored.payload {
        Some(Payload::Blank(_)) => EntryPayload::Blank,
        Some(Payload::Command(command)) => EntryPayload::Normal(Proposal(command)),
        Some(Payload::Membership(membership)) => {
            EntryPayload::Membership(membership_from_stored(membership)?)
        }
        None => {
            return Err(Malformed(format!(
                "entry {} is of a kind that this release does not know; upgrade this controller",
                id.index
            )));
        }
    };
    Ok(Entry { log_id, payload })
}

/// What a snapshot's header says about consensus. The caller fills in whose snapshot it is.
#[must_use]
pub fn meta_to_header(meta: &SnapshotMeta) -> v1::SnapshotHeader {
    v1::SnapshotHeader {
        last_log_id: meta.last_log_id.as_ref().map(log_id_to_stored),
        membership_log_id: meta.last_membership.log_id().as_ref().map(log_id_to_stored),
        membership: Some(membership_to_stored(meta.last_membership.membership())),
        ..v1::SnapshotHeader::default()
    }
}

/// What a snapshot contains, from its header.
///
/// # Errors
/// If the members in it are not valid.
pub fn meta_from_header(header: &v1::SnapshotHeader) -> Result<SnapshotMeta, Malformed> {
    let membership = membership_from_stored(header.membership.clone().unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: header.last_log_id.as_ref().map(log_id_from_stored),
        last_membership: StoredMembership::new(
            header.membership_log_id.as_ref().map(log_id_from_stored),
            membership,
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::consensus::fixture::member;

    fn joint() -> Membership {
        let nodes: BTreeMap<_, _> = [1, 4, 9].map(|id| (id, Node::from(member(id)))).into();
        Membership::new(vec![[1].into(), [1, 4, 9].into()], nodes).unwrap()
    }

    #[test]
    fn every_kind_of_entry_survives_the_stored_form() {
        let command = v1::Command { at_unix_ms: 7, ..v1::Command::default() };
        let payloads =
            [EntryPayload::Blank, EntryPayload::Normal(Proposal(command)), EntryPayload::Membership(joint())];
        for payload in payloads {
            let entry = Entry { log_id: log_id(3, 17), payload };
            assert_eq!(entry_from_stored(entry_to_stored(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn votes_survive_the_stored_form() {
        for vote in [Vote::new(4, 9), Vote::new_committed(4, 9), Vote::new(0, 0)] {
            assert_eq!(vote_from_stored(&vote_to_stored(&vote)), vote);
        }
    }

    #[test]
    fn a_snapshots_meta_survives_its_header() {
        for meta in [
            SnapshotMeta::default(),
            SnapshotMeta {
                last_log_id: Some(log_id(2, 30)),
                last_membership: StoredMembership::new(Some(log_id(2, 12)), joint()),
            },
        ] {
            assert_eq!(meta_from_header(&meta_to_header(&meta)).unwrap(), meta);
        }
    }

    #[test]
    fn what_lacks_a_part_is_refused() {
        let no_id = v1::StoredEntry { id: None, payload: Some(Payload::Blank(v1::StoredBlank {})) };
        let unknown = v1::StoredEntry { id: Some(v1::StoredLogId { term: 1, index: 5 }), payload: None };
        let stranger = v1::StoredMembership {
            configurations: vec![v1::StoredVoters { raft_ids: vec![1, 2] }],
            nodes: vec![member(1)],
        };
        assert!(entry_from_stored(no_id).unwrap_err().0.contains("without a log id"));
        assert!(entry_from_stored(unknown).unwrap_err().0.contains("upgrade this controller"));
        assert!(membership_from_stored(stranger).is_err());
    }
}
