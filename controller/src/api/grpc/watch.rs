//! Changes of desired objects, in log order, from any member.
//!
//! It must never let a watcher believe that nothing happens while this member hears of nothing: without a leader
//! the stream ends, and the watcher goes on elsewhere.

use std::time::Duration;

use futures::stream::BoxStream;
use hawser_proto::v1::{self, watch_service_server::WatchService};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    api::{context::Context, error::ApiError, watch_filter::WatchFilter},
    leader::Standing,
    view::{Event, Subscription},
};

/// A watcher that nothing happens to hears this often up to where nothing did.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);

/// An election is over by then; a member that knows of no leader for longer is cut off.
const LEADERLESS_LIMIT: Duration = Duration::from_secs(5);

/// Responses that may wait for a slow watcher. One that falls further behind than the ring reaches is told so.
const QUEUED: usize = 16;

/// `WatchService`.
pub struct Watch(pub Context);

#[tonic::async_trait]
impl WatchService for Watch {
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let filter = WatchFilter::new(&request)?;
        let view = self.0.consensus.view();
        let after = match request.after_revision {
            0 => view.revision(),
            revision => revision,
        };
        let subscription = view.subscribe(after).map_err(|gone| ApiError::Compacted(gone.to_string()))?;
        let (sender, receiver) = mpsc::channel(QUEUED);
        // Where the watch begins, for one that breaks before anything has happened.
        let begins = v1::WatchResponse { revision: after, changes: Vec::new() };
        let watcher = Watcher {
            subscription,
            filter,
            standing: self.0.standing.clone(),
            member: self.0.consensus.status().member.name,
            sender,
        };
        tokio::spawn(watcher.run(begins));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One watch from its beginning to its end.
struct Watcher {
    subscription: Subscription,
    filter: WatchFilter,
    standing: watch::Receiver<Standing>,
    member: String,
    sender: mpsc::Sender<Result<v1::WatchResponse, Status>>,
}

impl Watcher {
    async fn run(mut self, begins: v1::WatchResponse) {
        if self.sender.send(Ok(begins)).await.is_err() {
            return;
        }
        let mut last_said = Instant::now();
        let mut leaderless_since = None;
        loop {
            let event = tokio::select! {
                event = self.subscription.next(BOOKMARK_INTERVAL) => event,
                () = stays_leaderless(&mut self.standing, &mut leaderless_since) => {
                    let _nobody_listens = self.sender.send(Err(self.cut_off().into())).await;
                    return;
                }
                () = self.sender.closed() => return,
            };
            let (response, end) = match event {
                Ok(Event::Changes(set)) => {
                    let changes: Vec<_> =
                        set.changes.iter().filter(|change| self.filter.shows(change)).cloned().collect();
                    // Also where only others' objects change all the time, the watcher hears up to where.
                    if changes.is_empty() && last_said.elapsed() < BOOKMARK_INTERVAL {
                        continue;
                    }
                    (Ok(v1::WatchResponse { revision: set.revision, changes }), false)
                }
                Ok(Event::Bookmark(revision)) => {
                    (Ok(v1::WatchResponse { revision, changes: Vec::new() }), false)
                }
                Err(gone) => (Err(ApiError::Compacted(gone.to_string()).into()), true),
            };
            last_said = Instant::now();
            if self.sender.send(response).await.is_err() || end {
                return;
            }
        }
    }

    fn cut_off(&self) -> ApiError {
        ApiError::Unavailable(format!(
            "controller {} has not heard of a leader for {} s, so it hears of no changes; watch another controller, \
             and see `hawser cluster status`",
            self.member,
            LEADERLESS_LIMIT.as_secs()
        ))
    }
}

/// Completes once no leader has been known for the whole limit. `since` is when that began; a member that stands for
/// leader again and again is leaderless all the while.
async fn stays_leaderless(standing: &mut watch::Receiver<Standing>, since: &mut Option<Instant>) {
    loop {
        if matches!(*standing.borrow_and_update(), Standing::Leaderless) {
            since.get_or_insert_with(Instant::now);
        } else {
            *since = None;
        }
        let over = async {
            match since {
                Some(since) => sleep_until(*since + LEADERLESS_LIMIT).await,
                None => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = over => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn neither_bookmarks_nor_vain_elections_put_off_the_end_of_a_watch_without_a_leader() {
        let (sender, mut standing) = watch::channel(Standing::Following(v1::Member::default()));
        let mut since = None;
        let second = Duration::from_secs(1);
        assert!(timeout(LEADERLESS_LIMIT * 2, stays_leaderless(&mut standing, &mut since)).await.is_err());

        let began = Instant::now();
        sender.send_replace(Standing::Leaderless);
        let elections = tokio::spawn(async move {
            loop {
                sleep(second).await;
                sender.send_replace(Standing::Leaderless);
            }
        });
        // A bookmark that is due begins the wait anew.
        while timeout(second * 2, stays_leaderless(&mut standing, &mut since)).await.is_err() {
            assert!(began.elapsed() < LEADERLESS_LIMIT * 2, "it never ends");
        }
        assert_eq!(began.elapsed(), LEADERLESS_LIMIT);
        elections.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_comes_in_between_begins_the_time_anew() {
        let (sender, mut standing) = watch::channel(Standing::Leaderless);
        let mut since = None;
        let almost = LEADERLESS_LIMIT - Duration::from_secs(1);
        assert!(timeout(almost, stays_leaderless(&mut standing, &mut since)).await.is_err());
        sender.send_replace(Standing::Following(v1::Member::default()));
        assert!(timeout(almost, stays_leaderless(&mut standing, &mut since)).await.is_err());
        sender.send_replace(Standing::Leaderless);
        assert!(timeout(almost, stays_leaderless(&mut standing, &mut since)).await.is_err());
    }
}
