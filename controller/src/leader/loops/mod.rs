//! The leader's loops: each compares the desired state with what was observed and names the next command.
//!
//! A loop is a pure function without a memory. The driver alone proposes, bound to the reign's term; what a loop
//! decided from has to stand there as it was, or the command does nothing.

pub mod attach;
mod checksum;
mod claims;
pub mod create;
pub mod detach;
pub mod disk_failed;
pub mod evidence;
pub mod facts;
pub mod reasons;
pub mod release;
pub mod remove;
pub mod restored;
pub mod synced;
#[cfg(test)]
pub(crate) mod table;
pub(crate) mod tick;

use std::{sync::Arc, time::Duration};

use hawser_process::wall_clock;
use hawser_proto::v1::{self, command::Command, outcome};
use hawser_state::State;
use prost::Message;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{Reign, observed::Observed, work_queue::WorkQueue};
use crate::consensus::{Committed, Consensus, ProposeError};

/// A reason that was just recorded is not recorded anew before this time, whatever it flaps between.
const REASON_REST: Duration = Duration::from_secs(10);
/// Looks are at least this far apart, and never take more than a fifth of one processor's time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// A new leader has heard of nobody: what it would note as a reason before this time is its own newness, and who asked
/// the one before it for a take-over may be about to ask again.
const NEWNESS: Duration = Duration::from_secs(4);

type Loop = fn(&State, &Observed) -> Vec<Command>;

/// In the order in which their commands are admitted when there are too many: what people wait for comes first.
const LOOPS: [Loop; 9] = [
    disk_failed::decide,
    attach::decide,
    detach::decide,
    synced::decide,
    create::decide,
    release::decide,
    remove::decide,
    restored::decide,
    facts::decide,
];

/// What goes on while a restored cluster waits for its nodes.
const WHILE_SETTLING: [Loop; 2] = [restored::decide, facts::decide];

/// A command as the leader's own loops propose it: without a request key.
pub(crate) fn command(command: Command) -> v1::Command {
    v1::Command { at_unix_ms: wall_clock::unix_ms(), request: None, command: Some(command) }
}

/// Looks whenever the state or the observations change, until the reign ends.
pub(super) async fn run(reign: Arc<Reign>, consensus: Consensus) {
    let mut driver = Driver {
        queue: WorkQueue::default(),
        proposals: JoinSet::new(),
        checksums: checksum::Checksums::default(),
        reign: reign.clone(),
        consensus,
    };
    tokio::select! {
        () = driver.drive() => {}
        () = reign.ended.cancelled() => {}
    }
}

/// A command under its key in the queue, and what it came to.
type Proposed = (Vec<u8>, Command, Result<Committed, ProposeError>);

struct Driver {
    queue: WorkQueue,
    proposals: JoinSet<Proposed>,
    checksums: checksum::Checksums,
    reign: Arc<Reign>,
    consensus: Consensus,
}

impl Driver {
    async fn drive(&mut self) {
        let mut revisions = self.consensus.view().revisions();
        let mut observations = self.reign.observed.changes();
        let mut requests = self.reign.take_over_requests.changes();
        loop {
            revisions.mark_unchanged();
            observations.mark_unchanged();
            requests.mark_unchanged();
            let began = Instant::now();
            self.look();
            let not_before = Instant::now() + (began.elapsed() * 4).max(SHORTEST_PAUSE);

            let grace_ends = self.reign.began + NEWNESS;
            let due = self.queue.next_due(Instant::now());
            let due = due.into_iter().chain((grace_ends > began).then_some(grace_ends)).min();
            let waited = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The senders live in the view and in the reign, which this holds.
                _ = revisions.changed() => {}
                _ = observations.changed() => {}
                _ = requests.changed() => {}
                () = waited => {}
                Some(proposed) = self.proposals.join_next() => self.settle(proposed),
            }
            sleep_until(not_before).await;
            while let Some(proposed) = self.proposals.try_join_next() {
                self.settle(proposed);
            }
        }
    }

    fn look(&mut self) {
        let state = self.consensus.view().state();
        let observed = self.reign.observed.picture();
        let now = Instant::now();
        // What the state says is not to be carried out before it is known what has become of it.
        let loops: &[Loop] = if state.is_settling() { &WHILE_SETTLING } else { &LOOPS };
        for decide in loops {
            for command in decide(&state, &observed) {
                self.propose(command, now);
            }
        }
        if now.duration_since(self.reign.began) >= NEWNESS {
            for command in reasons::decide(&state, &observed) {
                self.propose(command, now);
            }
            for command in claims::decide(&state, &self.reign.take_over_requests) {
                self.propose(command, now);
            }
        }
        if let Some(command) = self.checksums.decide(&state) {
            self.propose(command, now);
        }
    }

    fn propose(&mut self, command: Command, now: Instant) {
        let key = key_of(&command);
        if !self.queue.admit(&key, now) {
            return;
        }
        let (consensus, term) = (self.consensus.clone(), self.reign.term);
        self.proposals.spawn(async move {
            let result = consensus.propose_in_term(term, self::command(command.clone())).await;
            (key, command, result)
        });
    }

    fn settle(&mut self, proposed: Result<Proposed, JoinError>) {
        // A task that panicked leaves its command under way; the reign's end forgets it.
        let Ok((key, command, result)) = proposed else { return };
        let now = Instant::now();
        let refusal = match result {
            Ok(committed) => match committed.outcome.outcome {
                Some(outcome::Outcome::Applied(_)) => None,
                Some(outcome::Outcome::Rejected(rejected)) => Some(rejected.message),
                Some(outcome::Outcome::Stale(stale)) => Some(stale.message),
                None => Some("an outcome of a later release".into()),
            },
            Err(error) => Some(error.to_string()),
        };
        match refusal {
            None => self.queue.done(&key, rest_after(&command), now),
            Some(reason) => {
                tracing::info!(?command, reason, "a step of the leader did not apply; it is looked at again");
                self.queue.failed(&key, now);
            }
        }
    }
}

/// The encoded command; for reasons the operation alone, so that flapping ones rest together.
fn key_of(command: &Command) -> Vec<u8> {
    let keyed = match command {
        Command::RecordOperationReason(record) => {
            Command::RecordOperationReason(v1::RecordOperationReason { id: record.id, reason: None })
        }
        other => other.clone(),
    };
    v1::Command { command: Some(keyed), ..Default::default() }.encode_to_vec()
}

fn rest_after(command: &Command) -> Duration {
    match command {
        Command::RecordOperationReason(_) => REASON_REST,
        _ => Duration::ZERO,
    }
}
