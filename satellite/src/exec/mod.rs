//! Doing what the document wants: one worker for each replica incarnation that it names.
//!
//! A worker that ends, because the document does not name its replica any more or because the satellite
//! ends, leaves everything as it is: what is missing in a document is not removed.

mod backoff;
#[cfg(test)]
mod fixture;
mod inquiry;
mod limits;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hawser_proto::ids::DocumentVersion;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use limits::Limits;

use crate::{
    arbiter::Arbiter,
    fence::desk::Desk,
    host::Host,
    keys::Keys,
    ledger::{Ledger, ReplicaKey},
    metrics::Metrics,
    observe::Observer,
    report::{self, Board},
    wanted::{Wanted, wanted},
};
use worker::{Orders, Worker};

/// All workers look at least this often, whatever the kernel reports.
const PERIOD: Duration = Duration::from_secs(30);

/// What all workers use.
pub(crate) struct Shared {
    pub(crate) node: String,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) ledger: Ledger,
    pub(crate) observer: Observer,
    pub(crate) arbiter: Arc<dyn Arbiter>,
    pub(crate) desk: Desk,
    pub(crate) board: Board,
    pub(crate) limits: Limits,
    pub(crate) keys: Keys,
    pub(crate) metrics: Arc<Metrics>,
}

struct Running {
    wanted: watch::Sender<Wanted>,
    wake: Arc<Notify>,
    cancelled: CancellationToken,
}

/// Keeps a worker for each entry of the accepted document, until `cancelled`. `news` wakes all of them.
pub(crate) async fn supervise(
    shared: Arc<Shared>,
    mut news: watch::Receiver<u64>,
    cancelled: CancellationToken,
) {
    let mut document = shared.ledger.document();
    let mut kernel = shared.host.changes();
    let tracker = TaskTracker::new();
    let mut running: BTreeMap<ReplicaKey, Running> = BTreeMap::new();
    let handed_over = watch::Sender::new(DocumentVersion::default());
    let mut next_look = Instant::now() + PERIOD;
    loop {
        let accepted = document.borrow_and_update().clone();
        if let Some(accepted) = accepted {
            let wanted = wanted(&accepted);
            let gone = gone(&shared, &running, &wanted);
            running.retain(|key, worker| {
                let keep = wanted.contains_key(key);
                if !keep {
                    worker.cancelled.cancel();
                }
                keep
            });
            shared.board.keep_replicas(&wanted.keys().cloned().collect::<BTreeSet<_>>());
            for (key, wanted) in wanted {
                hand_over(&shared, &tracker, &mut running, &handed_over, key, wanted);
            }
            handed_over.send_replace(accepted.document.version());
            if !gone.is_empty() {
                // It waits for the disk, and nobody waits for it.
                tracker.spawn(forget(shared.ledger.clone(), gone));
            }
        }
        tokio::select! {
            () = cancelled.cancelled() => break,
            changed = document.changed() => if changed.is_err() { break },
            changed = kernel.changed() => {
                if changed.is_err() {
                    // Without the kernel's word there are still the regular looks.
                    kernel = watch::Sender::new(0).subscribe();
                    tracing::warn!("the host reports no changes any more");
                }
                wake(&running);
            }
            changed = news.changed() => if changed.is_ok() { wake(&running) },
            () = sleep_until(next_look) => {
                next_look = Instant::now() + PERIOD;
                wake(&running);
            }
        }
    }
    for worker in running.values() {
        worker.cancelled.cancel();
    }
    tracker.close();
    tracker.wait().await;
}

fn wake(running: &BTreeMap<ReplicaKey, Running>) {
    for worker in running.values() {
        worker.wake.notify_one();
    }
}

fn hand_over(
    shared: &Arc<Shared>,
    tracker: &TaskTracker,
    running: &mut BTreeMap<ReplicaKey, Running>,
    handed_over: &watch::Sender<DocumentVersion>,
    key: ReplicaKey,
    wanted: Wanted,
) {
    if let Some(worker) = running.get(&key) {
        worker.wanted.send_if_modified(|held| {
            let changed = !held.says_the_same(&wanted);
            *held = wanted;
            changed
        });
        return;
    }
    let unknown = report::replica::unknown(&key.0, key.1, "it has not been looked at yet");
    shared.board.put_replica(&key, unknown);
    let (sender, receiver) = watch::channel(wanted);
    let worker = Running { wanted: sender, wake: Arc::default(), cancelled: CancellationToken::new() };
    tracker.spawn(
        Worker::new(
            Arc::clone(shared),
            key.clone(),
            Orders { wanted: receiver, handed_over: handed_over.subscribe() },
            Arc::clone(&worker.wake),
            worker.cancelled.clone(),
        )
        .run(),
    );
    running.insert(key, worker);
}

/// What the document does not name any more, if nothing of it is left.
fn gone(
    shared: &Shared,
    running: &BTreeMap<ReplicaKey, Running>,
    wanted: &BTreeMap<ReplicaKey, Wanted>,
) -> Vec<ReplicaKey> {
    running.keys().filter(|key| !wanted.contains_key(*key) && shared.board.is_removed(key)).cloned().collect()
}

async fn forget(ledger: Ledger, gone: Vec<ReplicaKey>) {
    for key in &gone {
        if let Err(error) = ledger.forget(key).await {
            tracing::warn!(resource = key.0, %error, "a removed replica is still remembered");
        }
    }
}

#[cfg(test)]
mod tests;
