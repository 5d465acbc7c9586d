//! Which change of the members comes next, and whether one may leave.
//!
//! Everything follows from what is committed and from who answers, so a new leader goes on where the last one
//! ended. It must never make the number of voters even: that tolerates no more failures than one voter less.

use std::collections::BTreeSet;

use hawser_proto::v1;
use hawser_state::State;

use super::types::Membership;

/// More voters make every commit slower and tolerate failures that do not happen together.
pub(super) const VOTERS_LIMIT: usize = 5;

/// The next change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// End the joint configuration that a leader left behind.
    FinishJoint,
    /// Send the log to a controller that has joined.
    AddLearner(v1::Member),
    /// Let another member lead: this one was removed.
    HandOver(u64),
    /// Let exactly these vote. Who voted before goes on as a learner.
    Vote(BTreeSet<u64>),
    /// Send no log any more to a controller that was removed.
    Forget(u64),
}

/// What the leader decides by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// Who leads.
    pub(super) own: u64,
    /// Who was announced, has joined or was removed.
    pub(super) state: &'a State,
    /// The newest membership.
    pub(super) members: &'a Membership,
    /// Members that have answered lately, and this one.
    pub(super) alive: &'a BTreeSet<u64>,
    /// Those of them that have nearly the whole log.
    pub(super) caught_up: &'a BTreeSet<u64>,
}

/// Why a member cannot be removed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nobody else votes or could.
    NobodyElse,
    /// Those of the members that would stay do not answer, and the others would be no majority.
    Silent(Vec<u64>),
}

impl Situation<'_> {
    fn was_removed(&self, raft_id: u64) -> bool {
        self.state.removed_member(raft_id).is_some()
    }

    /// Who voted so far and stays without `leaving`, and who could vote, each the first to be chosen first.
    fn candidates(&self, leaving: Option<u64>) -> (Vec<u64>, Vec<u64>) {
        let stays = |raft_id: &u64| leaving != Some(*raft_id) && !self.was_removed(*raft_id);
        let mut voters: Vec<u64> = self.members.voter_ids().filter(stays).collect();
        // Whoever loses the vote for an odd number is rather one that is silent, never the leader, else the youngest.
        voters.sort_by_key(|raft_id| (*raft_id != self.own, !self.alive.contains(raft_id), *raft_id));
        let learners = self.members.learner_ids().filter(stays);
        (voters, learners.filter(|raft_id| self.caught_up.contains(raft_id)).collect())
    }

    fn answers_for_a_majority(&self, members: &[u64]) -> bool {
        members.iter().filter(|raft_id| self.alive.contains(raft_id)).count() * 2 > members.len()
    }
}

/// The smallest next step; `None` if nothing is to be done, or if what is to be done has to wait.
pub(super) fn next_step(now: Situation<'_>) -> Option<Step> {
    if now.members.get_joint_config().len() > 1 {
        return Some(Step::FinishJoint);
    }
    let mut joined = now.state.members().filter(|member| member.store_incarnation != 0);
    if let Some(new) = joined.find(|member| now.members.get_node(&member.raft_id).is_none()) {
        return Some(Step::AddLearner(new.clone()));
    }
    let (voters, ready) = now.candidates(None);
    if now.was_removed(now.own) && !voters.is_empty() {
        let successor = voters.into_iter().find(|raft_id| now.caught_up.contains(raft_id));
        return successor.map(Step::HandOver);
    }
    let mut wanted: Vec<u64> = voters.into_iter().chain(ready).take(VOTERS_LIMIT).collect();
    if wanted.len().is_multiple_of(2) {
        wanted.pop();
    }
    let changes = now.members.voter_ids().collect::<BTreeSet<_>>() != wanted.iter().copied().collect();
    if changes {
        // Once proposed it binds: without a majority of the new voters nothing could be committed any more.
        return now.answers_for_a_majority(&wanted).then(|| Step::Vote(wanted.into_iter().collect()));
    }
    let mut learners = now.members.learner_ids();
    learners.find(|raft_id| now.was_removed(*raft_id) && *raft_id != now.own).map(Step::Forget)
}

/// Whether the cluster keeps its quorum without a member.
pub(super) fn obstacle_to_removing(now: Situation<'_>, raft_id: u64) -> Option<Obstacle> {
    if !now.members.voter_ids().any(|voter| voter == raft_id) {
        return None;
    }
    let (voters, ready) = now.candidates(Some(raft_id));
    let rest: Vec<u64> = voters.into_iter().chain(ready).collect();
    if rest.is_empty() {
        return Some(Obstacle::NobodyElse);
    }
    let silent = || rest.iter().copied().filter(|raft_id| !now.alive.contains(raft_id)).collect();
    (!now.answers_for_a_majority(&rest)).then(|| Obstacle::Silent(silent()))
}

/// The voter that can lead at once: it answers, and has the longest log.
pub(super) fn successor(
    own: u64,
    members: &Membership,
    alive: &BTreeSet<u64>,
    matched: impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    members
        .voter_ids()
        .filter(|raft_id| *raft_id != own)
        .max_by_key(|raft_id| (alive.contains(raft_id), matched(*raft_id)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::fixture::{member, state_with_removed};

    /// Announced, without a store.
    fn announced(raft_id: u64) -> v1::Member {
        v1::Member { store_incarnation: 0, ..member(raft_id) }
    }

    fn members(configurations: &[&[u64]], all: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> = all.iter().map(|id| (*id, member(*id).into())).collect();
        Membership::new(configurations.iter().map(|ids| ids.iter().copied().collect()).collect(), nodes)
            .unwrap()
    }

    /// A situation that member 1 leads in: who was announced beside the members, who was removed, who is silent.
    struct Case {
        what: &'static str,
        announced: Vec<v1::Member>,
        removed: &'static [u64],
        silent: &'static [u64],
        behind: &'static [u64],
        members: Membership,
    }

    fn case(what: &'static str, voters: &[u64], learners: &[u64]) -> Case {
        let all = [voters, learners].concat();
        Case {
            what,
            announced: vec![],
            removed: &[],
            silent: &[],
            behind: &[],
            members: members(&[voters], &all),
        }
    }

    impl Case {
        fn announced(self, announced: Vec<v1::Member>) -> Self {
            Self { announced, ..self }
        }

        fn removed(self, removed: &'static [u64]) -> Self {
            Self { removed, ..self }
        }

        fn silent(self, silent: &'static [u64]) -> Self {
            Self { silent, ..self }
        }

        fn behind(self, behind: &'static [u64]) -> Self {
            Self { behind, ..self }
        }

        fn ask<T>(&self, question: impl FnOnce(Situation<'_>) -> T) -> T {
            let (members, removed): (Vec<_>, Vec<_>) = self
                .members
                .nodes()
                .map(|(id, _)| member(*id))
                .partition(|member| !self.removed.contains(&member.raft_id));
            let state = state_with_removed(members.into_iter().chain(self.announced.clone()), removed);
            let alive: BTreeSet<u64> =
                self.members.nodes().map(|(id, _)| *id).filter(|id| !self.silent.contains(id)).collect();
            let caught_up = alive.iter().copied().filter(|id| !self.behind.contains(id)).collect();
            question(Situation {
                own: 1,
                state: &state,
                members: &self.members,
                alive: &alive,
                caught_up: &caught_up,
            })
        }
    }

    fn vote<const N: usize>(raft_ids: [u64; N]) -> Option<Step> {
        Some(Step::Vote(raft_ids.into()))
    }

    #[test]
    fn each_situation_has_its_next_step() {
        let joint = Case {
            members: members(&[&[1], &[1, 4, 6]], &[1, 4, 6]),
            ..case("a left-over joint configuration comes first", &[1], &[])
        };
        let cases = [
            (case("alone", &[1], &[]), None),
            (case("announced, not joined", &[1], &[]).announced(vec![announced(4)]), None),
            (case("joined", &[1], &[]).announced(vec![member(4)]), Some(Step::AddLearner(member(4)))),
            (case("one learner makes two", &[1], &[4]), None),
            (case("two learners make three", &[1], &[4, 6]), vote([1, 4, 6])),
            (case("one of them is behind", &[1], &[4, 6]).behind(&[6]), None),
            (case("one of them is silent", &[1], &[4, 6]).silent(&[6]), None),
            (case("of three learners the oldest two", &[1], &[4, 6, 9]), vote([1, 4, 6])),
            (case("three become five", &[1, 4, 6], &[8, 9]), vote([1, 4, 6, 8, 9])),
            (case("an even number becomes odd", &[1, 4], &[6]), vote([1, 4, 6])),
            (case("never more than five", &[1, 2, 3, 4, 5], &[6, 7]), None),
            (joint.announced(vec![member(9)]), Some(Step::FinishJoint)),
            (case("a spare does not take the place of a silent voter", &[1, 4, 6], &[8]).silent(&[6]), None),
            (case("of three one leaves", &[1, 4, 6], &[]).removed(&[6]), vote([1])),
            (case("a spare takes its place", &[1, 4, 6], &[8]).removed(&[6]), vote([1, 4, 8])),
            (
                case("of five one leaves, and a silent one loses its vote", &[1, 2, 3, 4, 5], &[])
                    .removed(&[5])
                    .silent(&[2]),
                vote([1, 3, 4]),
            ),
            (case("a second one leaves", &[1, 2, 3], &[4, 5]).removed(&[5, 3]), vote([1, 2, 4])),
            (
                case("the rest is no majority: wait", &[1, 2, 3, 4, 5], &[]).removed(&[5]).silent(&[2, 3, 4]),
                None,
            ),
            (case("it learns no more", &[1], &[4, 6]).removed(&[6]), Some(Step::Forget(6))),
            (
                case("who has joined since comes before", &[1], &[4, 6])
                    .removed(&[6])
                    .announced(vec![member(9)]),
                Some(Step::AddLearner(member(9))),
            ),
            (case("the leader leaves", &[1, 4, 6], &[]).removed(&[1]), Some(Step::HandOver(4))),
            (
                case("to one that answers", &[1, 4, 6], &[]).removed(&[1]).silent(&[4]),
                Some(Step::HandOver(6)),
            ),
            (case("to nobody who is behind", &[1, 4, 6], &[]).removed(&[1]).behind(&[4, 6]), None),
            (case("the only voter leaves", &[1], &[4]).removed(&[1]), vote([4])),
            (case("and hands over then", &[4], &[1]).removed(&[1]), Some(Step::HandOver(4))),
            (case("the only voter leaves nobody", &[1], &[4]).removed(&[1]).behind(&[4]), None),
        ];
        for (case, expected) in cases {
            assert_eq!(case.ask(next_step), expected, "{}", case.what);
        }
    }

    #[test]
    fn a_member_leaves_only_where_the_rest_goes_on() {
        let cases = [
            (case("alone", &[1], &[]), 1, Some(Obstacle::NobodyElse)),
            (case("nobody else is ready", &[1], &[4]).behind(&[4]), 1, Some(Obstacle::NobodyElse)),
            (case("a learner is ready", &[1], &[4]), 1, None),
            (case("one of three", &[1, 4, 6], &[]), 6, None),
            (case("the leader", &[1, 4, 6], &[]), 1, None),
            (case("the silent one", &[1, 4, 6], &[]).silent(&[6]), 6, None),
            (case("not the silent one", &[1, 4, 6], &[]).silent(&[6]), 4, Some(Obstacle::Silent(vec![6]))),
            (case("a spare makes up for it", &[1, 4, 6], &[8]).silent(&[6]), 4, None),
            (case("one of five with one silent", &[1, 2, 3, 4, 5], &[]).silent(&[5]), 4, None),
            (
                case("one of five with two silent", &[1, 2, 3, 4, 5], &[]).silent(&[4, 5]),
                2,
                Some(Obstacle::Silent(vec![4, 5])),
            ),
            (case("a learner", &[1, 4, 6], &[8]).silent(&[4]), 8, None),
            (case("one that has not joined", &[1], &[]), 9, None),
        ];
        for (case, leaving, expected) in cases {
            assert_eq!(case.ask(|now| obstacle_to_removing(now, leaving)), expected, "{}", case.what);
        }
    }

    #[test]
    fn the_leadership_goes_to_a_voter_that_answers() {
        let members = members(&[&[1, 4, 6]], &[1, 4, 6, 8]);
        let of = |alive: &[u64], matched: [(u64, u64); 3]| {
            let matched = BTreeMap::from(matched);
            let alive = alive.iter().copied().collect();
            successor(1, &members, &alive, |id| matched.get(&id).copied())
        };
        assert_eq!(of(&[1, 4, 6, 8], [(4, 10), (6, 12), (8, 99)]), Some(6), "the longest log");
        assert_eq!(of(&[1, 4], [(4, 10), (6, 12), (8, 99)]), Some(4), "an answer before a long log");
    }
}
