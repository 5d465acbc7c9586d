//! Who speaks with whom: every Raft request names the cluster and both members with their stores.
//!
//! openraft trusts that a member remembers what it promised. A member that lost its store, or one of another
//! cluster, does not; it must never be listened to, nor answer.

use hawser_proto::v1;
use hawser_state::State;
use tonic::Status;

use super::types::{Membership, Node};

/// What this member knows of the others.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The newest membership in its log, committed or not.
    pub(super) members: &'a Membership,
    /// What it has applied: who was announced, and which store joined.
    pub(super) state: &'a State,
    /// Log index of the last entry that is part of the state.
    pub(super) applied: u64,
}

/// This member, as its store says.
#[derive(Clone, Debug)]
pub(super) struct Myself {
    pub(super) identity: v1::StoreIdentity,
}

impl Myself {
    /// This member's entry in the membership.
    pub(super) fn member(&self) -> v1::Member {
        v1::Member {
            raft_id: self.identity.raft_id,
            name: self.identity.name.clone(),
            address: self.identity.address.clone(),
            store_incarnation: self.identity.incarnation,
        }
    }

    /// What a request to that member begins with.
    pub(super) fn to(&self, raft_id: u64, addressee: &Node) -> v1::Parties {
        v1::Parties {
            cluster_id: self.identity.cluster_id.clone(),
            lineage: self.identity.lineage,
            from: self.identity.raft_id,
            from_incarnation: self.identity.incarnation,
            to: raft_id,
            to_incarnation: addressee.store_incarnation,
        }
    }

    /// Refuses a request that is not meant for this store, or does not come from the store that it says.
    ///
    /// `certificate_name` is who the sender proved to be, `vote` what the request speaks for.
    ///
    /// One kind of stranger is listened to: a member that was announced after all that this one has applied. It
    /// may lead or stand, and a member that refused it could never catch up. Nobody else is: a learner sends
    /// nothing before its membership is in the log of whoever leads it.
    pub(super) fn check(
        &self,
        parties: Option<&v1::Parties>,
        vote: Option<&v1::StoredVote>,
        certificate_name: &str,
        known: Known<'_>,
    ) -> Result<(), Status> {
        let Some(parties) = parties else {
            return Err(Status::invalid_argument("a Raft request without parties"));
        };
        let own = &self.identity;
        if (&parties.cluster_id, parties.lineage) != (&own.cluster_id, own.lineage) {
            return Err(Status::failed_precondition(format!(
                "this controller belongs to cluster {:?}, lineage {}, the request to cluster {:?}, lineage {}",
                own.cluster_id, own.lineage, parties.cluster_id, parties.lineage
            )));
        }
        if (parties.to, parties.to_incarnation) != (own.raft_id, own.incarnation) {
            return Err(Status::failed_precondition(format!(
                "the request is for member {} with store {:016x}, this is member {} with store {:016x}; a \
                 controller that lost its store has to be removed and added again",
                parties.to, parties.to_incarnation, own.raft_id, own.incarnation
            )));
        }
        if parties.from_incarnation == 0 || parties.from == own.raft_id {
            return Err(Status::failed_precondition("the sender does not say which store it has"));
        }
        if let Some(vote) = vote.filter(|vote| vote.candidate != parties.from) {
            return Err(Status::failed_precondition(format!(
                "the request of member {} speaks for member {}",
                parties.from, vote.candidate
            )));
        }
        let Some(sender) = self.known_as(parties.from, known) else {
            return self.check_stranger(parties.from, certificate_name, known);
        };
        // Announced, and the entry that says with which store it joined has not come yet.
        let store_is_known = sender.store_incarnation != 0;
        if store_is_known && sender.store_incarnation != parties.from_incarnation {
            return Err(Status::failed_precondition(format!(
                "member {} ({}) joined with store {:016x} and now has store {:016x}; a controller that lost \
                 its store has to be removed and added again",
                parties.from, sender.name, sender.store_incarnation, parties.from_incarnation
            )));
        }
        if sender.name != certificate_name {
            return Err(Status::permission_denied(format!(
                "member {} is {}, but the certificate of the sender says {certificate_name}",
                parties.from, sender.name
            )));
        }
        Ok(())
    }

    /// Who the member under this id is: by the membership, by what was applied, or by who introduced this one.
    fn known_as(&self, raft_id: u64, known: Known<'_>) -> Option<Node> {
        let was_removed = known.state.removed_member(raft_id).is_some();
        let introduced = || {
            let mut introducers = self.identity.introduced_by.iter();
            introducers.find(|member| member.raft_id == raft_id && !was_removed)
        };
        let announced = || known.state.member(raft_id).or_else(introduced).cloned().map(Node::from);
        known.members.get_node(&raft_id).cloned().or_else(announced)
    }

    /// A member's id is the index of the entry that announced it, so whoever has applied that entry knows it.
    fn check_stranger(&self, raft_id: u64, certificate_name: &str, known: Known<'_>) -> Result<(), Status> {
        let applied = known.applied;
        if let Some(removed) = known.state.removed_member(raft_id) {
            return Err(Status::permission_denied(format!(
                "controller {} (member {raft_id}) was removed from the cluster; to have it back run `hawser cluster \
                 add-member {}` and start it without its old store",
                removed.name, removed.name
            )));
        }
        if raft_id <= applied {
            return Err(Status::permission_denied(format!(
                "no member {raft_id} was announced, or it was removed, says the log up to entry {applied}; run \
                 `hawser cluster add-member {certificate_name}` and start it with that order"
            )));
        }
        if certificate_name == self.identity.name {
            return Err(Status::permission_denied(format!(
                "member {raft_id} uses the certificate of this controller, {certificate_name}; give each \
                 controller its own"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use tonic::Code;

    use super::*;
    use crate::consensus::fixture::{member, state_with_removed};

    fn myself(raft_id: u64) -> Myself {
        let member = member(raft_id);
        Myself {
            identity: v1::StoreIdentity {
                cluster_id: "c".into(),
                lineage: 1,
                raft_id,
                name: member.name,
                address: member.address,
                incarnation: member.store_incarnation,
                ..v1::StoreIdentity::default()
            },
        }
    }

    #[test]
    fn only_the_right_store_of_the_right_cluster_is_heard_by_the_right_store() {
        let nodes: BTreeMap<_, _> = [1, 2].map(|id| (id, Node::from(member(id)))).into();
        let members = Membership::new(vec![[1, 2].into()], nodes).unwrap();
        // Member 5 was announced and has joined, member 7 was announced.
        let announced = v1::Member { store_incarnation: 0, ..member(7) };
        let state = state_with_removed([member(1), member(2), member(5), announced], vec![member(6)]);
        let known = Known { members: &members, state: &state, applied: 10 };
        let good = myself(2).to(1, &member(1).into());
        let of = |from, from_incarnation| v1::Parties { from, from_incarnation, ..good.clone() };
        type Case = (&'static str, v1::Parties, &'static str, Option<(Code, &'static str)>);
        let cases: [Case; 18] = [
            ("as it should be", good.clone(), "n2", None),
            ("of a member announced later", of(11, 9), "n11", None),
            (
                "of one under this one's name",
                of(11, 9),
                "n1",
                Some((Code::PermissionDenied, "certificate of this")),
            ),
            (
                "of nobody announced",
                of(9, 9),
                "n9",
                Some((Code::PermissionDenied, "no member 9 was announced")),
            ),
            (
                "of one that was removed",
                of(6, 600),
                "n6",
                Some((Code::PermissionDenied, "controller n6 (member 6) was removed")),
            ),
            ("of one that has joined", of(5, 500), "n5", None),
            ("of its lost store", of(5, 501), "n5", Some((Code::FailedPrecondition, "joined with store"))),
            ("of another in its name", of(5, 500), "n6", Some((Code::PermissionDenied, "says n6"))),
            ("of one that was announced", of(7, 700), "n7", None),
            ("of another in that one's name", of(7, 700), "n8", Some((Code::PermissionDenied, "says n8"))),
            (
                "of another cluster",
                v1::Parties { cluster_id: "d".into(), ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "cluster \"c\"")),
            ),
            (
                "of another lineage",
                v1::Parties { lineage: 2, ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "lineage 2")),
            ),
            (
                "for another member",
                v1::Parties { to: 3, ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "for member 3")),
            ),
            (
                "for a store that is lost",
                v1::Parties { to_incarnation: 7, ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "lost its store")),
            ),
            (
                "of a later member for a store that is lost",
                v1::Parties { to_incarnation: 7, ..of(11, 9) },
                "n11",
                Some((Code::FailedPrecondition, "lost its store")),
            ),
            (
                "of a member with a new store",
                of(2, 7),
                "n2",
                Some((Code::FailedPrecondition, "joined with store")),
            ),
            ("without a store", of(2, 0), "n2", Some((Code::FailedPrecondition, "which store"))),
            ("under another's name", good.clone(), "n3", Some((Code::PermissionDenied, "says n3"))),
        ];
        for (what, parties, certificate, refusal) in cases {
            let vote = v1::StoredVote { term: 3, candidate: parties.from, committed: true };
            let outcome = myself(1).check(Some(&parties), Some(&vote), certificate, known);
            match (outcome, refusal) {
                (Ok(()), None) => {}
                (Err(status), Some((code, words))) => {
                    assert_eq!(status.code(), code, "{what}");
                    assert!(status.message().contains(words), "{what}: {}", status.message());
                }
                (outcome, _) => panic!("{what}: {outcome:?}"),
            }
        }
        assert!(myself(1).check(None, None, "n2", known).is_err());
        let of_another = v1::StoredVote { term: 3, candidate: 5, committed: true };
        let refusal = myself(1).check(Some(&good), Some(&of_another), "n2", known).unwrap_err();
        assert!(refusal.message().contains("member 2 speaks for member 5"), "{}", refusal.message());
    }

    #[test]
    fn a_member_that_has_applied_nothing_hears_who_introduced_it_as_they_were() {
        let mut new = myself(7);
        new.identity.introduced_by = vec![member(1)];
        let members = Membership::default();
        let state = State::default();
        let known = Known { members: &members, state: &state, applied: 0 };
        let good = myself(1).to(7, &member(7).into());
        new.check(Some(&good), None, "n1", known).unwrap();
        let other = v1::Parties { from_incarnation: 5, ..good };
        assert!(new.check(Some(&other), None, "n1", known).is_err());
    }
}
