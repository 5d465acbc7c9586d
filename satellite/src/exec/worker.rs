//! One worker per replica incarnation: look, plan, act, look again.
//!
//! It takes no input but what it sees: whatever woke it, it plans from scratch. It must never act on a
//! document that has been replaced, and never hold up another worker.

use std::{sync::Arc, time::Duration};

use hawser_plan::{
    Action, Note, Plan,
    desired::{Attachment, Desired},
    observed::Looked,
    plan,
    situation::Situation,
    step::Step,
};
use hawser_proto::{ids::DocumentVersion, v1};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Shared, backoff::Backoff, inquiry::Inquiry, limits::Ending};
use crate::{
    host::HostError, ledger::ReplicaKey, metrics::StepOutcome, observe::Observation, report, wanted::Wanted,
};

/// Events that come within this time share a look.
const DEBOUNCE: Duration = Duration::from_millis(15);
/// Between two looks at a gate that should go and that somebody holds.
const HELD: Duration = Duration::from_secs(1);
/// Actions that worked and are due again within this time did not help.
const NO_EFFECT: Duration = Duration::from_secs(60);

/// What a worker is told.
pub(super) struct Orders {
    /// What is wanted of its replica.
    pub(super) wanted: watch::Receiver<Wanted>,
    /// Which document all workers have been told of.
    pub(super) handed_over: watch::Receiver<DocumentVersion>,
}

/// A worker.
pub(super) struct Worker {
    shared: Arc<Shared>,
    key: ReplicaKey,
    wanted: watch::Receiver<Wanted>,
    handed_over: watch::Receiver<DocumentVersion>,
    wake: Arc<Notify>,
    cancelled: CancellationToken,
    inquiry: Inquiry,
    backoff: Backoff,
    failure: Option<v1::StepFailure>,
    /// Not under a resource that runs: looking for storage takes a command.
    look_for_storage: bool,
    /// What was done last, and when that ended.
    done: Option<(Vec<Action>, Instant)>,
}

enum Turn {
    /// Look again at once.
    Again,
    /// Wait for news, at most until then.
    Rest(Option<Instant>),
}

/// What went wrong in a step or a note.
struct Failure {
    step: &'static str,
    command: String,
    message: String,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: ReplicaKey,
        orders: Orders,
        wake: Arc<Notify>,
        cancelled: CancellationToken,
    ) -> Self {
        let inquiry = Inquiry::new(Arc::clone(&shared.arbiter), shared.desk.clone(), shared.keys.clone());
        let backoff = Backoff::new(shared.keys.seed());
        Self {
            shared,
            key,
            wanted: orders.wanted,
            handed_over: orders.handed_over,
            wake,
            cancelled,
            inquiry,
            backoff,
            failure: None,
            look_for_storage: true,
            done: None,
        }
    }

    /// Works until cancelled.
    pub(super) async fn run(mut self) {
        self.wanted.mark_changed();
        while !self.cancelled.is_cancelled() {
            let changed = self.wanted.has_changed().unwrap_or(false);
            let wanted = self.wanted.borrow_and_update().clone();
            let turn = match &wanted.desired {
                Ok(desired) => {
                    if changed {
                        self.inquiry.document_changed(desired, wanted.fresh);
                    }
                    self.turn(desired).await
                }
                Err(unreadable) => {
                    let observed = report::replica::unknown(&self.key.0, self.key.1, &unreadable.to_string());
                    self.shared.board.put_replica(&self.key, observed);
                    Turn::Rest(None)
                }
            };
            if let Turn::Rest(until) = turn {
                self.rest(until).await;
            }
        }
    }

    async fn turn(&mut self, desired: &Desired) -> Turn {
        let mut subject = desired.subject(looks_for_openers(desired));
        if !self.look_for_storage {
            subject.provider = None;
        }
        let Some(mut observation) = self.shared.observer.look(subject).await else {
            return Turn::Rest(None);
        };
        let looked_for_storage = self.look_for_storage;
        self.look_for_storage = desired.needs_storage_looked_at(&observation.found);
        if self.look_for_storage && !looked_for_storage {
            return Turn::Again;
        }
        // What is planned must be what the report's revision says, or the controllers would take for agreed what
        // this worker has not heard of yet.
        if !self.still_wanted_under(observation.version).await {
            return Turn::Again;
        }
        let mut look_at = self.inquiry.observed(desired, &observation);
        if looks_for_openers(desired) && has_gate(&observation) {
            // No event tells that somebody has let go of it.
            let soon = Instant::now() + HELD;
            look_at = Some(look_at.map_or(soon, |at| at.min(soon)));
        }
        let situation = Situation {
            node: &self.shared.node,
            desired,
            found: &observation.found,
            remembered: self.shared.ledger.remembered(&self.key),
            arbitration: self.inquiry.known(),
        };
        let (plan, is_doubtful) = (plan(&situation), situation.is_doubtful());
        if plan.actions.is_empty() {
            self.failure = None;
        }
        if plan.actions.contains(&Action::Note(Note::Behind)) {
            self.inquiry.fell_behind(desired);
        }
        if let Some(number) = plan.proves_nothing_since {
            observation.version.revision = observation.version.revision.min(number.revision().before());
        }
        self.inquiry.reported(&observation);
        let observed = report::replica::observed(
            desired,
            &observation,
            is_doubtful,
            self.failure.clone(),
            plan.waits_for.as_deref(),
        );
        self.shared.board.put_replica(&self.key, observed);
        if plan.removed {
            self.shared.board.put_removed(&self.key, observation.version);
        }
        // After a look that failed nothing is known to be wanted no more: what is under way may be committed all the same.
        if let Desired::Replica(replica) = desired
            && !matches!(observation.found.kernel, Looked::Unknown(_))
        {
            self.inquiry.ask(replica, &plan.questions);
        }
        if plan.actions.is_empty() {
            return Turn::Rest(look_at);
        }
        if let Some(until) = self.not_before(&plan) {
            return Turn::Rest(Some(look_at.map_or(until, |at| at.min(until))));
        }
        self.act(desired, plan).await;
        Turn::Again
    }

    /// Waits until it has been told of the document `version`, if it has not been yet. Whether that says the
    /// same of its replica.
    async fn still_wanted_under(&mut self, version: DocumentVersion) -> bool {
        let told = tokio::select! {
            () = self.cancelled.cancelled() => false,
            told = self.handed_over.wait_for(|handed_over| *handed_over >= version) => told.is_ok(),
        };
        told && !self.wanted.has_changed().unwrap_or(false)
    }

    /// Until when to leave the plan alone: after a failure, or after having done just this in vain.
    fn not_before(&mut self, plan: &Plan) -> Option<Instant> {
        if let Some(until) = self.backoff.until() {
            return Some(until);
        }
        let (done, at) = self.done.as_ref()?;
        if *done != plan.actions || Instant::now() >= *at + NO_EFFECT {
            return None;
        }
        // Taken for a failure once; when that wait is over, it is tried again.
        self.done = None;
        self.backoff.failed();
        self.backoff.until()
    }

    async fn act(&mut self, desired: &Desired, plan: Plan) {
        let repeated = self.done.as_ref().is_some_and(|(done, _)| *done == plan.actions);
        for action in &plan.actions {
            if self.cancelled.is_cancelled() || self.wanted.has_changed().unwrap_or(false) {
                return;
            }
            let result = match action {
                Action::Note(note) => self.shared.ledger.note(&self.key, *note).await.map_err(|error| {
                    Failure { step: "write-ledger", command: String::new(), message: error.to_string() }
                }),
                Action::Run(step) => self.run_step(desired, step).await,
            };
            if let Err(failure) = result {
                let attempts = self.backoff.failed();
                tracing::warn!(
                    resource = self.key.0,
                    step = failure.step,
                    command = failure.command,
                    message = failure.message,
                    attempts,
                    "a step failed"
                );
                self.failure = Some(v1::StepFailure {
                    step: failure.step.to_owned(),
                    command: failure.command,
                    message: failure.message,
                    attempts,
                });
                self.done = None;
                return;
            }
        }
        self.failure = None;
        if !repeated {
            self.backoff.succeeded();
        }
        self.done = Some((plan.actions, Instant::now()));
    }

    async fn run_step(&self, desired: &Desired, step: &Step) -> Result<(), Failure> {
        let failure = |command: &str, message: String| Failure {
            step: step.verb(),
            command: command.to_owned(),
            message,
        };
        let permit = self.shared.limits.admit(step).await.map_err(|why| failure("", why))?;
        let _promoting = match (step, desired) {
            (Step::Promote { drbd_name, .. }, Desired::Replica(replica)) => {
                let left_behind =
                    replica.peers.iter().filter(|peer| self.inquiry.known().lets_go_on_without(peer));
                let left_behind = left_behind.map(|peer| peer.node.clone()).collect();
                Some(self.shared.desk.promoting(drbd_name, left_behind))
            }
            _ => None,
        };
        let deadline = deadline(step);
        let began = Instant::now();
        // The host keeps the deadline; this is for a host that cannot.
        let result = timeout(deadline * 2, self.shared.host.execute(step, deadline)).await;
        drop(permit);
        let ending = match &result {
            Ok(Ok(())) => Ending::Worked,
            Ok(Err(error)) if !error.is_wedged() => Ending::Failed,
            Ok(Err(_)) | Err(_) => Ending::Stuck,
        };
        self.shared.limits.ended(step, ending);
        let taken = began.elapsed();
        tracing::info!(
            resource = self.key.0,
            step = step.verb(),
            milliseconds = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
            ok = matches!(result, Ok(Ok(()))),
            "ran a step"
        );
        let outcome = if matches!(result, Ok(Ok(()))) { StepOutcome::Ok } else { StepOutcome::Failed };
        self.shared.metrics.step(step.verb(), outcome, taken);
        match result {
            Ok(result) => result.map_err(|error: HostError| failure(error.command(), error.to_string())),
            Err(_) => Err(failure("", format!("did not end within {} s", (deadline * 2).as_secs()))),
        }
    }

    async fn rest(&mut self, until: Option<Instant>) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            changed = self.wanted.changed() => match changed {
                // Seen again at the top of the loop.
                Ok(()) => self.wanted.mark_changed(),
                Err(_) => self.cancelled.cancelled().await,
            },
            () = self.wake.notified() => tokio::time::sleep(DEBOUNCE).await,
            () = self.inquiry.answered() => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}

/// Whether to look for the processes that hold a gate: only where they may be in the way.
fn looks_for_openers(desired: &Desired) -> bool {
    match desired {
        Desired::Replica(replica) => replica.attachment != Attachment::Attached,
        Desired::Removal(_) => true,
    }
}

fn has_gate(observation: &Observation) -> bool {
    observation.found.gates.values().any(|gate| gate.present().is_some())
}

/// How long a step may take.
fn deadline(step: &Step) -> Duration {
    Duration::from_secs(match step {
        Step::EnsureBackingVolume(_) | Step::RemoveBackingVolume(_) | Step::CreateMetadata(_) => 60,
        Step::BringUp { .. } | Step::AttachDisk { .. } | Step::Adjust { .. } | Step::Promote { .. } => 30,
        _ => 20,
    })
}
