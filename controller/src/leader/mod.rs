//! What runs only while this member leads: a reign, from the first confirmed read to the end of the leadership.
//!
//! A reign begins empty and ends at once: its token is cancelled, sessions close, loops stop, and whatever they
//! still propose is bound to its term. Nothing here outlives it, and nothing is handed to the next one.
//!
//! A lease that lapses in the same term is no end yet: on a busy machine a majority is late now and then, and
//! letting go of every satellite would make it later. Meanwhile nothing can be confirmed: satellites hear no
//! heartbeat, reads wait, and proposals go to the log of this term or nowhere.

pub mod conditions;
pub mod loops;
pub mod numbers;
pub mod observed;
pub mod placement_facts;
mod reign;
pub mod session;
pub mod sessions;
pub mod take_over;
pub mod take_over_requests;
mod work_queue;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use hawser_proto::v1;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::reign::Reign;
use crate::consensus::{Consensus, Leadership, ReadError};

/// A leader that has not regained its lease by then has lost its satellites anyway: they redial after 1.5 s.
const LAPSE_LIMIT: Duration = Duration::from_secs(3);

/// Who leads, as this member sees it.
#[derive(Debug, Clone)]
pub enum Standing {
    /// This member, and its reign has begun.
    Leading(Arc<Reign>),
    /// Another one.
    Following(v1::Member),
    /// Nobody that this member knows of, or this member before its reign has begun.
    Leaderless,
}

impl Standing {
    /// The reign, where this member leads.
    #[must_use]
    pub fn reign(&self) -> Option<&Arc<Reign>> {
        match self {
            Self::Leading(reign) => Some(reign),
            Self::Following(_) | Self::Leaderless => None,
        }
    }
}

/// Follows the leadership and runs one reign after another until `stopped`.
///
/// The receiver sees [`Standing::Leading`] only between a reign's beginning and its end.
pub fn start(consensus: Consensus, stopped: CancellationToken) -> watch::Receiver<Standing> {
    let (standing, receiver) = watch::channel(Standing::Leaderless);
    tokio::spawn(follow(consensus, standing, stopped));
    receiver
}

async fn follow(consensus: Consensus, standing: watch::Sender<Standing>, stopped: CancellationToken) {
    // One count over all reigns of this member: a session's id never comes twice.
    let sessions_opened = Arc::new(AtomicU64::new(0));
    let mut leadership = consensus.leadership();
    while !stopped.is_cancelled() {
        let now: Leadership = leadership.borrow_and_update().clone();
        let reign = match (now.leading_term(), now.leader()) {
            (Some(term), _) => {
                standing.send_replace(Standing::Leaderless);
                begin(&consensus, term).await.then(|| Arc::new(Reign::new(term, sessions_opened.clone())))
            }
            (None, Some(leader)) => {
                standing.send_replace(Standing::Following(leader.clone()));
                None
            }
            (None, None) => {
                standing.send_replace(Standing::Leaderless);
                None
            }
        };
        let Some(reign) = reign else {
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { break },
                () = stopped.cancelled() => break,
            }
            continue;
        };

        tracing::info!(term = reign.term, "this controller leads");
        standing.send_replace(Standing::Leading(reign.clone()));
        let tasks = reign.clone().run(consensus.clone());
        let ended = tokio::select! {
            ended = end_of(reign.term, &mut leadership) => ended,
            () = stopped.cancelled() => true,
        };
        standing.send_replace(Standing::Leaderless);
        reign.ended.cancel();
        tasks.wait().await;
        tracing::info!(term = reign.term, "this controller no longer leads");
        if ended {
            break;
        }
    }
    standing.send_replace(Standing::Leaderless);
}

/// Waits until the reign of this term is over, and returns whether consensus itself has ended.
async fn end_of(term: u64, leadership: &mut watch::Receiver<Leadership>) -> bool {
    let is_over = |now: &Leadership| now.term != term || now.leader().is_some();
    loop {
        match leadership.wait_for(|now| now.leading_term() != Some(term)).await {
            Err(_) => return true,
            Ok(now) if is_over(&now) => return false,
            Ok(_) => {}
        }
        let settled = leadership.wait_for(|now| now.leading_term() == Some(term) || is_over(now));
        match timeout(LAPSE_LIMIT, settled).await {
            Err(_) => return false,
            Ok(Err(_)) => return true,
            Ok(Ok(now)) if is_over(&now) => return false,
            Ok(Ok(_)) => {}
        }
    }
}

/// A reign begins with a confirmed read: only then does the state contain all that was acknowledged before it.
async fn begin(consensus: &Consensus, term: u64) -> bool {
    loop {
        match consensus.read_barrier().await {
            Ok(()) => return true,
            Err(ReadError::Stopped) => return false,
            Err(error) => tracing::debug!(term, %error, "the reign cannot begin yet"),
        }
        if consensus.leadership().borrow().leading_term() != Some(term) {
            return false;
        }
        // A refused barrier answers only after its own time-out or a change of leadership; this only keeps a
        // fault there from spinning.
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::consensus::Role;

    fn leading(term: u64) -> Leadership {
        Leadership { term, role: Role::Leader }
    }

    fn following(term: u64, leader: Option<&str>) -> Leadership {
        let leader = leader.map(|name| v1::Member { name: name.into(), ..Default::default() });
        Leadership { term, role: Role::Follower { leader } }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lapse_of_the_lease_in_the_same_term_ends_nothing() {
        let (sender, mut leadership) = watch::channel(leading(3));
        let mut end = std::pin::pin!(end_of(3, &mut leadership));
        for _ in 0..5 {
            sender.send_replace(following(3, None));
            assert!(timeout(LAPSE_LIMIT / 2, &mut end).await.is_err());
            sender.send_replace(leading(3));
            assert!(timeout(LAPSE_LIMIT * 2, &mut end).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reign_ends_with_its_term_or_for_another_leader_or_a_long_lapse() {
        let table = [
            ("the next term", leading(4), Duration::ZERO),
            ("the next term without a leader", following(4, None), Duration::ZERO),
            ("another leader", following(3, Some("c2")), Duration::ZERO),
            ("a long lapse", following(3, None), LAPSE_LIMIT),
        ];
        for (what, next, after) in table {
            let (sender, mut leadership) = watch::channel(leading(3));
            sender.send_replace(next);
            let began = tokio::time::Instant::now();
            assert!(!end_of(3, &mut leadership).await, "{what}");
            assert_eq!(began.elapsed(), after, "{what}");
        }
        let (sender, mut leadership) = watch::channel(leading(3));
        drop(sender);
        assert!(end_of(3, &mut leadership).await, "consensus has ended");
    }
}
