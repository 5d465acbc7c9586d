//! What runs only while this member leads: a reign, from the first confirmed read to the loss of the lease.
//!
//! A reign begins empty and ends at once: its token is cancelled, sessions close, loops stop, and whatever they
//! still propose is bound to its term. Nothing here outlives it, and nothing is handed to the next one.

pub mod conditions;
pub mod loops;
pub mod observed;
pub mod placement_facts;
mod reign;
pub mod session;
pub mod sessions;
pub mod take_over;
mod work_queue;

use std::sync::Arc;

use hawser_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::reign::Reign;
use crate::consensus::{Consensus, Leadership, ReadError};

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
    let mut leadership = consensus.leadership();
    while !stopped.is_cancelled() {
        let now: Leadership = leadership.borrow_and_update().clone();
        let reign = match (now.leading_term(), now.leader()) {
            (Some(term), _) => {
                standing.send_replace(Standing::Leaderless);
                begin(&consensus, term).await
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
        let still = leadership.wait_for(|now| now.leading_term() != Some(reign.term));
        let ended = tokio::select! {
            // An error says that consensus itself has ended.
            lost = still => lost.is_err(),
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

/// A reign begins with a confirmed read: only then does the state contain all that was acknowledged before it.
async fn begin(consensus: &Consensus, term: u64) -> Option<Arc<Reign>> {
    loop {
        match consensus.read_barrier().await {
            Ok(()) => return Some(Arc::new(Reign::new(term))),
            Err(ReadError::Stopped) => return None,
            Err(error) => tracing::debug!(term, %error, "the reign cannot begin yet"),
        }
        if consensus.leadership().borrow().leading_term() != Some(term) {
            return None;
        }
        // A refused barrier answers only after its own time-out or a change of leadership; this only keeps a
        // fault there from spinning.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
