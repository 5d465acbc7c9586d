//! How the node's pools stand: looked at regularly, after the document has other pools, and soon after a removal has been
//! confirmed, for then there is room that the next request wants to have.
//!
//! Only looking: a pool is never made or changed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hawser_plan::{desired, observed::PoolFound};
use hawser_proto::v1;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    host::{Host, HostError},
    ledger::Ledger,
    report::Board,
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);
/// At least between two looks, however much is removed.
const BREATH: Duration = Duration::from_secs(1);

/// Reports the pools of the accepted document until `cancelled`.
pub(crate) async fn watch(host: Arc<dyn Host>, ledger: Ledger, board: Board, cancelled: CancellationToken) {
    let mut document = ledger.document();
    loop {
        let accepted = document.borrow_and_update().clone();
        let pools = accepted.as_ref().map(|accepted| accepted.document.pools.clone());
        let mut ordered_removed =
            accepted.as_ref().map(|accepted| removed(&accepted.document)).unwrap_or_default();
        let mut found = BTreeMap::new();
        for pool in pools.clone().unwrap_or_default() {
            let named = v1::PoolObserved {
                name: pool.name.clone(),
                incarnation: pool.incarnation,
                lineage: accepted.as_ref().map_or(0, |accepted| accepted.document.lineage),
                ..v1::PoolObserved::default()
            };
            let observed = match desired::provider(&pool) {
                Some(provider) => observed(named, host.pool(&provider).await),
                None => v1::PoolObserved {
                    problem: "this satellite does not know that kind of pool".to_owned(),
                    ..named
                },
            };
            found.insert(pool.name, observed);
        }
        board.put_pools(found);
        let looked_at = Instant::now();
        let next = sleep(PERIOD);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = &mut next => break,
                changed = document.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Most documents change replicas alone.
                    let held = document.borrow_and_update().clone();
                    if held.as_ref().map(|accepted| &accepted.document.pools) != pools.as_ref() {
                        document.mark_changed();
                        break;
                    }
                    let now_removed = held.map(|held| removed(&held.document)).unwrap_or_default();
                    if !ordered_removed.is_subset(&now_removed) {
                        let soon = next.deadline().min(looked_at + BREATH);
                        next.as_mut().reset(soon);
                    }
                    ordered_removed = now_removed;
                }
            }
        }
    }
}

/// The replicas whose removal a document orders. One that is confirmed is in no later document.
fn removed(document: &v1::DesiredDocument) -> BTreeSet<(String, u64)> {
    document.removed.iter().map(|gone| (gone.resource.clone(), gone.replica_incarnation)).collect()
}

/// The report on a pool that was asked: what it is named by, and the answer.
pub(crate) fn observed(named: v1::PoolObserved, asked: Result<PoolFound, HostError>) -> v1::PoolObserved {
    let mut observed = named;
    match asked {
        Ok(found) => {
            observed.capacity_bytes = found.capacity_bytes;
            observed.free_bytes = found.free_bytes;
            observed.metadata_used_permyriad = found.metadata_used_permyriad;
        }
        Err(error) => observed.problem = error.to_string(),
    }
    observed
}

/// What is said of a pool that was not told of in time.
pub(crate) fn late(deadline: Duration) -> HostError {
    HostError::TimedOut { what: "the answer of the pool's tools".to_owned(), deadline }
}
