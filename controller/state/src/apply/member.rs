//! The controllers: announced, joined with one store, removed for good.
//!
//! It must never give a Raft id twice: ids are log indices.

use hawser_proto::{
    names,
    v1::{AnnounceMember, Member, RecordMemberJoined, RemoveMember},
};

use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// So many removed controllers are remembered by name. Raft lets each go within seconds.
const REMOVED_KEPT: usize = 64;

pub(super) fn announce(transaction: &mut Transaction<'_>, command: &AnnounceMember) -> Verdict {
    names::member_name("name", &command.name)?;
    names::endpoint("address", &command.address)?;
    if let Some(other) = transaction.state().members().find(|member| member.name == command.name) {
        // The first ticket may have been lost on its way; until a store has joined with it, it can be given again.
        if other.address == command.address && other.store_incarnation == 0 {
            return Ok(Success::member(other.raft_id));
        }
        return Err(Denial::already_exists(
            "name",
            format!("controller {} was announced already, at {}", other.name, other.address),
        ));
    }
    if let Some(other) = transaction.state().members().find(|member| member.address == command.address) {
        return Err(Denial::already_exists(
            "address",
            format!("{} is the address of controller {}", other.address, other.name),
        ));
    }
    let raft_id = transaction.index;
    transaction.put_member(Member {
        raft_id,
        name: command.name.clone(),
        address: command.address.clone(),
        store_incarnation: 0,
    });
    Ok(Success::member(raft_id))
}

pub(super) fn record_joined(transaction: &mut Transaction<'_>, command: &RecordMemberJoined) -> Verdict {
    if command.store_incarnation == 0 {
        return Err(Denial::invalid(
            "store_incarnation",
            "a store that joins has an incarnation other than 0",
        ));
    }
    let Some(member) = transaction.state().member(command.raft_id).cloned() else {
        return Err(Denial::not_found(
            "raft_id",
            format!(
                "no controller with Raft id {} was announced: run `hawser cluster add-member` first",
                command.raft_id
            ),
        ));
    };
    if member.store_incarnation == command.store_incarnation {
        return Ok(Success::DONE);
    }
    if member.store_incarnation != 0 {
        return Err(Denial::precondition(format!(
            "controller {} has joined with another store: a controller that lost its store has to be announced anew",
            member.name
        )));
    }
    transaction.put_member(Member { store_incarnation: command.store_incarnation, ..member });
    Ok(Success::DONE)
}

pub(super) fn remove(transaction: &mut Transaction<'_>, command: &RemoveMember) -> Verdict {
    let state = transaction.state();
    let Some(member) = state.member(command.raft_id).cloned() else {
        return Err(Denial::not_found(
            "name",
            format!("controller {} (member {}) is not in this cluster", command.name, command.raft_id),
        ));
    };
    if member.name != command.name {
        return Err(Denial::invalid(
            "name",
            format!("member {} is controller {}, not {}", command.raft_id, member.name, command.name),
        ));
    }
    let has_joined = |member: &Member| member.store_incarnation != 0;
    let is_another = |other: &&Member| other.raft_id != member.raft_id;
    if has_joined(&member) && !state.members().filter(is_another).any(has_joined) {
        return Err(Denial::precondition(format!(
            "controller {} is the last one of this cluster, and all that the cluster knows lies there: add another \
             controller with `hawser cluster add-member` first",
            member.name
        )));
    }
    let mut cluster = state.cluster().clone();
    let surplus = (cluster.removed_members.len() + 1).saturating_sub(REMOVED_KEPT);
    cluster.removed_members.drain(..surplus);
    cluster.removed_members.push(member.clone());
    transaction.put_cluster(cluster);
    transaction.remove_member(member.raft_id);
    Ok(Success::member(member.raft_id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{RejectionReason, command::Command as Kind};

    use super::*;
    use crate::{State, fixture::Cluster};

    fn announce(name: &str, address: &str) -> Kind {
        Kind::AnnounceMember(AnnounceMember { name: name.into(), address: address.into() })
    }

    fn joined(raft_id: u64, store_incarnation: u64) -> Kind {
        Kind::RecordMemberJoined(RecordMemberJoined { raft_id, store_incarnation })
    }

    fn remove(raft_id: u64, name: &str) -> Kind {
        Kind::RemoveMember(RemoveMember { raft_id, name: name.into() })
    }

    #[test]
    fn a_controller_joins_with_one_store_however_often_it_was_announced() {
        let mut cluster = Cluster::initialized();
        let raft_id = cluster.applied(announce("c2", "c2:6470")).number;
        assert_eq!(raft_id, cluster.index);
        assert_eq!(cluster.applied(announce("c2", "c2:6470")).number, raft_id, "the ticket was lost");
        assert_eq!(cluster.state.members().count(), 2);
        assert_eq!(cluster.reason(announce("c2", "c3:6470")), RejectionReason::AlreadyExists);
        assert_eq!(cluster.reason(announce("c3", "c2:6470")), RejectionReason::AlreadyExists);
        assert_eq!(cluster.rejected(announce("c3", "c3")).field, "address");

        assert_eq!(cluster.reason(joined(raft_id, 0)), RejectionReason::Invalid);
        assert_eq!(cluster.reason(joined(99, 5)), RejectionReason::NotFound);
        cluster.applied(joined(raft_id, 5));
        cluster.applied(joined(raft_id, 5));
        assert_eq!(cluster.reason(joined(raft_id, 6)), RejectionReason::Precondition);
        assert_eq!(cluster.state.member(raft_id).unwrap().store_incarnation, 5);
        assert_eq!(
            cluster.reason(announce("c2", "c2:6470")),
            RejectionReason::AlreadyExists,
            "it has joined"
        );
    }

    #[test]
    fn a_removed_controller_comes_back_only_under_another_id() {
        // Given a controller that has joined.
        let mut cluster = Cluster::initialized();
        let first = cluster.applied(announce("c2", "c2:6470")).number;
        cluster.applied(joined(first, 5));

        // When it is removed.
        assert_eq!(cluster.applied(remove(first, "c2")).number, first);

        // Then its id and its store are nobody's any more, and its name and address are free.
        assert!(cluster.state.member(first).is_none());
        assert_eq!(cluster.state.removed_member(first).unwrap().name, "c2");
        assert_eq!(cluster.reason(joined(first, 5)), RejectionReason::NotFound);
        assert_eq!(cluster.reason(remove(first, "c2")), RejectionReason::NotFound);
        let second = cluster.applied(announce("c2", "c2:6470")).number;
        assert!(second > first);
        let reloaded = State::from_records(cluster.state.records()).unwrap();
        assert_eq!(reloaded.removed_member(first), cluster.state.removed_member(first));
    }

    #[test]
    fn the_last_controller_stays_and_one_that_never_joined_goes() {
        let mut cluster = Cluster::initialized();
        let announced = cluster.applied(announce("c2", "c2:6470")).number;
        let refusal = cluster.rejected(remove(1, "c1"));
        assert_eq!(refusal.reason(), RejectionReason::Precondition);
        assert!(refusal.message.contains("add-member"), "{}", refusal.message);
        assert_eq!(cluster.rejected(remove(announced, "c1")).field, "name");
        assert_eq!(cluster.rejected(remove(99, "c9")).field, "name");

        cluster.applied(remove(announced, "c2"));

        assert_eq!(cluster.state.members().map(|member| member.raft_id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_names_of_removed_controllers_do_not_pile_up() {
        let mut cluster = Cluster::initialized();
        let mut last = 0;
        for _ in 0..REMOVED_KEPT + 3 {
            last = cluster.applied(announce("c2", "c2:6470")).number;
            cluster.applied(remove(last, "c2"));
        }
        assert_eq!(cluster.state.cluster().removed_members.len(), REMOVED_KEPT);
        assert!(cluster.state.removed_member(last).is_some());
    }
}
