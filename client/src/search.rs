//! Finds the controller to ask first: the leader if it answers, else one that has a quorum, else any.
//!
//! Every controller serves every call, so this only saves time: a relay on the way, and the wait for
//! machines that are gone without a word. It must never be needed for a right answer.

use std::time::Duration;

use hawser_proto::v1;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{Controller, endpoint::Endpoint};

/// Longer than this, nobody is waited for.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);
/// How long a leader may take to answer after another controller has.
const GRACE: Duration = Duration::from_millis(250);

/// Index of the endpoint to ask first; `None` where nobody answered.
pub(crate) async fn best(endpoints: &[Endpoint]) -> Option<usize> {
    let mut until = Instant::now() + LONGEST_SEARCH;
    let mut asked = JoinSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let controller = Controller::new(endpoint.channel.clone(), until);
        asked.spawn(async move {
            let status = controller.cluster().get_status(v1::GetStatusRequest {}).await;
            (index, status.map(|status| Standing::of(&status.into_inner())))
        });
    }
    let mut best: Option<(Standing, usize)> = None;
    while let Ok(Some(joined)) = timeout_at(until, asked.join_next()).await {
        let Ok((index, Ok(standing))) = joined else { continue };
        if best.is_none_or(|(known, _)| standing > known) {
            best = Some((standing, index));
        }
        if standing == Standing::Leader {
            break;
        }
        until = until.min(Instant::now() + GRACE);
    }
    best.map(|(_, index)| index)
}

/// What a controller is good for, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Alone,
    Follower,
    Leader,
}

impl Standing {
    fn of(status: &v1::GetStatusResponse) -> Self {
        let itself = status
            .members
            .iter()
            .filter_map(|view| view.member.as_ref())
            .find(|member| member.name == status.member);
        match itself {
            _ if !status.has_quorum => Self::Alone,
            Some(member) if status.leader != 0 && member.raft_id == status.leader => Self::Leader,
            _ => Self::Follower,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_without_a_quorum_is_none() {
        let status = |leader: u64, has_quorum: bool| v1::GetStatusResponse {
            member: "n2".into(),
            leader,
            has_quorum,
            members: vec![v1::MemberView {
                member: Some(v1::Member { raft_id: 3, name: "n2".into(), ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(Standing::of(&status(3, true)), Standing::Leader);
        assert_eq!(Standing::of(&status(1, true)), Standing::Follower);
        assert_eq!(Standing::of(&status(0, true)), Standing::Follower);
        assert_eq!(Standing::of(&status(3, false)), Standing::Alone);
        assert!(Standing::Leader > Standing::Follower && Standing::Follower > Standing::Alone);
    }
}
