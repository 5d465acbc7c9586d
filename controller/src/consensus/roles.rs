//! Each member's part, and in words why it does not vote.
//!
//! It knows what is committed and, on the leader, how far the others are. It must never guess who is down.

use hawser_proto::v1::{self, MemberRole};
use hawser_state::State;

use super::{next_change::VOTERS_LIMIT, status::MemberStatus, types::Membership};

/// All members by raft id: announced, learning, voting and leaving ones. `matched` is known to the leader alone.
pub(super) fn statuses(
    state: &State,
    members: &Membership,
    matched: impl Fn(u64) -> Option<u64>,
) -> Vec<MemberStatus> {
    let voters: Vec<u64> = members.voter_ids().collect();
    let learners = members.learner_ids().filter(|id| state.removed_member(*id).is_none()).count();
    let of = |member: v1::Member| {
        let raft_id = member.raft_id;
        let role = if members.get_node(&raft_id).is_none() {
            MemberRole::Announced
        } else if state.removed_member(raft_id).is_some() {
            MemberRole::Leaving
        } else if voters.contains(&raft_id) {
            MemberRole::Voter
        } else {
            MemberRole::Learner
        };
        let reason = reason(role, &member, voters.len(), learners);
        MemberStatus { member, role, matched: matched(raft_id), reason }
    };
    let announced = state.members().filter(|member| members.get_node(&member.raft_id).is_none()).cloned();
    let admitted = members.nodes().map(|(raft_id, node)| node.member(*raft_id));
    let mut statuses: Vec<_> = admitted.chain(announced).map(of).collect();
    statuses.sort_by_key(|status| status.member.raft_id);
    statuses
}

fn reason(role: MemberRole, member: &v1::Member, voters: usize, learners: usize) -> String {
    match role {
        MemberRole::Announced if member.store_incarnation == 0 => {
            "waits until it is started with the order that \
             `hawser cluster add-member` wrote"
                .to_owned()
        }
        MemberRole::Announced => "has joined and is about to be sent the log".to_owned(),
        MemberRole::Leaving => {
            "was removed; a majority of the voters has to agree before it is gone".to_owned()
        }
        MemberRole::Learner if voters >= VOTERS_LIMIT => {
            format!("keeps the log but does not vote: {voters} voters are the most that there can be")
        }
        // With another one it makes the voters odd again.
        MemberRole::Learner if learners == 1 && !voters.is_multiple_of(2) => format!(
            "keeps the log but does not vote: {} voters would tolerate no more failures than {voters}; it votes when \
             a further controller has joined",
            voters + 1
        ),
        MemberRole::Learner => {
            "keeps the log but does not vote: it votes once it has caught up and makes the number \
             of voters odd"
                .to_owned()
        }
        MemberRole::Voter | MemberRole::Unspecified => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::fixture::{member, state_with_removed};

    #[test]
    fn whoever_does_not_vote_says_why() {
        // Given voters 1, 4 and 6 of which 6 was removed, a learner and one that was announced.
        let nodes: BTreeMap<_, _> = [1, 4, 6, 8].map(|id| (id, member(id).into())).into();
        let members = Membership::new(vec![[1, 4, 6].into()], nodes).unwrap();
        let announced = v1::Member { store_incarnation: 0, ..member(9) };
        let state =
            state_with_removed([member(1), member(4), member(8), announced], vec![member(6), member(3)]);

        let statuses = statuses(&state, &members, |id| (id == 4).then_some(40));

        let said: Vec<_> =
            statuses.iter().map(|it| (it.member.raft_id, it.role, it.matched, it.reason.as_str())).collect();
        let expected = [
            (1, MemberRole::Voter, None, ""),
            (4, MemberRole::Voter, Some(40), ""),
            (6, MemberRole::Leaving, None, "was removed"),
            (8, MemberRole::Learner, None, "4 voters would tolerate no more failures than 3"),
            (9, MemberRole::Announced, None, "add-member"),
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert_eq!((said.0, said.1, said.2), (expected.0, expected.1, expected.2));
            assert!(said.3.contains(expected.3) && said.3.is_empty() == expected.3.is_empty(), "{said:?}");
        }
    }
}
