//! The cluster's clock: the leader's monotonic time, committed once a minute. Deadlines and request keys expire by
//! nothing else, so that no machine's wall clock can.

use std::{sync::Arc, time::Duration};

use hawser_proto::v1::{self, command::Command};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{consensus::Consensus, leader::Reign};

const INTERVAL: Duration = Duration::from_secs(60);

/// Proposes a `Tick` each minute until the reign ends. Time that could not be committed goes into the next one.
pub(crate) async fn run(reign: Arc<Reign>, consensus: Consensus) {
    let mut counted = Instant::now();
    let mut minutes = interval_at(counted + INTERVAL, INTERVAL);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = minutes.tick() => {}
            () = reign.ended.cancelled() => return,
        }
        let now = Instant::now();
        let elapsed_ms = u64::try_from(now.duration_since(counted).as_millis()).unwrap_or(u64::MAX);
        let tick = super::command(Command::Tick(v1::Tick { elapsed_ms }));
        match consensus.propose_in_term(reign.term, tick).await {
            Ok(_) => counted = now,
            Err(error) => tracing::warn!(%error, "the cluster's clock could not be advanced"),
        }
    }
}
