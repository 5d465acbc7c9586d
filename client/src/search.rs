//! Finds the controller to ask: the leader if it answers, else one that has a quorum, else any.
//!
//! All are asked at once, so that machines that are gone without a word cost no time. Every controller serves
//! every call; it must never be needed for a right answer.

use std::time::Duration;

use hawser_proto::v1;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tonic::Code;

use crate::{Controller, Unanswered, client::NO_ANSWER, endpoint::Endpoint};

/// How long a leader may take to answer after another controller has.
const GRACE: Duration = Duration::from_millis(250);

/// What a search came to.
pub(crate) struct Found {
    /// Index of the endpoint to ask.
    pub(crate) best: Option<usize>,
    /// Index of each endpoint that is of no use now, and why; empty where there is a best one.
    pub(crate) unanswered: Vec<(usize, Unanswered)>,
}

/// Asks all endpoints until `deadline` how they stand. Among equals, one at which the last attempt has not
/// failed comes first.
pub(crate) async fn search(endpoints: &[Endpoint], failed_at: Option<usize>, deadline: Instant) -> Found {
    let mut until = deadline;
    let mut asked = JoinSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let controller = Controller::new(endpoint.channel.clone(), deadline);
        asked.spawn(async move { (index, controller.cluster().get_status(v1::GetStatusRequest {}).await) });
    }
    let silent = Unanswered { outcome: NO_ANSWER.to_owned(), untrusted: false };
    let mut outcomes = vec![silent; endpoints.len()];
    let mut best: Option<(Standing, bool, usize)> = None;
    while let Ok(Some(joined)) = timeout_at(until, asked.join_next()).await {
        let Ok((index, answer)) = joined else { continue };
        let standing = match answer {
            Ok(status) => Standing::of(status.get_ref()),
            Err(status) if status.code() == Code::Unimplemented => Standing::Alone,
            Err(status) => {
                outcomes[index] = Unanswered::from_status(&status);
                continue;
            }
        };
        let candidate = (standing, failed_at != Some(index), index);
        if best.is_none_or(|known| (candidate.0, candidate.1) > (known.0, known.1)) {
            best = Some(candidate);
        }
        if standing == Standing::Leader {
            break;
        }
        until = until.min(Instant::now() + GRACE);
    }
    match best {
        Some((_, _, index)) => Found { best: Some(index), unanswered: Vec::new() },
        None => Found { best: None, unanswered: outcomes.into_iter().enumerate().collect() },
    }
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
