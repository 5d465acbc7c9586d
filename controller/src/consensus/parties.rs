//! Who speaks with whom: every Raft request names the cluster and both members with their stores.
//!
//! openraft trusts that a member remembers what it promised. A member that lost its store, or one of another
//! cluster, does not; it must never be listened to, nor answer.

use hawser_proto::v1;
use tonic::Status;

use super::types::{Membership, Node};

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
    /// `certificate_name` is who the sender proved to be. A sender that this member has never heard of is
    /// let through: a newly elected leader may have joined while this member was away.
    pub(super) fn check(
        &self,
        parties: Option<&v1::Parties>,
        certificate_name: &str,
        members: &Membership,
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
        let introduced = || {
            let found = own.introduced_by.iter().find(|member| member.raft_id == parties.from)?;
            Some(Node::from(found.clone()))
        };
        let known = members.get_node(&parties.from).cloned().or_else(introduced);
        let Some(sender) = known else { return Ok(()) };
        if sender.store_incarnation != parties.from_incarnation {
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use tonic::Code;

    use super::*;

    fn member(raft_id: u64) -> v1::Member {
        v1::Member {
            raft_id,
            name: format!("n{raft_id}"),
            address: format!("10.0.0.{raft_id}:6470"),
            store_incarnation: raft_id * 100,
        }
    }

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
        let good = myself(2).to(1, &member(1).into());
        type Case = (&'static str, v1::Parties, &'static str, Option<(Code, &'static str)>);
        let cases: [Case; 9] = [
            ("as it should be", good.clone(), "n2", None),
            ("of nobody known", v1::Parties { from: 9, from_incarnation: 9, ..good.clone() }, "n9", None),
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
                "of a member with a new store",
                v1::Parties { from_incarnation: 7, ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "joined with store")),
            ),
            (
                "without a store",
                v1::Parties { from_incarnation: 0, ..good.clone() },
                "n2",
                Some((Code::FailedPrecondition, "which store")),
            ),
            ("under another's name", good, "n3", Some((Code::PermissionDenied, "says n3"))),
        ];
        for (what, parties, certificate, refusal) in cases {
            let outcome = myself(1).check(Some(&parties), certificate, &members);
            match (outcome, refusal) {
                (Ok(()), None) => {}
                (Err(status), Some((code, words))) => {
                    assert_eq!(status.code(), code, "{what}");
                    assert!(status.message().contains(words), "{what}: {}", status.message());
                }
                (outcome, _) => panic!("{what}: {outcome:?}"),
            }
        }
        assert!(myself(1).check(None, "n2", &members).is_err());
    }
}
