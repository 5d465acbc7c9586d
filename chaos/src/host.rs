//! A simulated node's commands, with the faults that real ones have: they take time, fail, hang, or fail after having
//! worked.
//!
//! Looking never lies: what cannot be looked at is unknown.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{PoolFound, ReplicaFound, Subject},
    step::{Provider, Step},
};
use hawser_satellite::host::{CommandError, Facts, Host, HostError, Numbers, sim::SimHost};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, time::sleep};

use crate::{faults::FaultKind, fired::Fired, trace::Trace};

/// How likely each fault of a command is, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandFaults {
    /// It fails and has done nothing.
    pub fails: u32,
    /// It fails after having worked.
    pub fails_after: u32,
    /// It does not end within its deadline.
    pub hangs: u32,
    /// It takes seconds.
    pub slow: u32,
}

/// The faults of the commands of one node, as they are now. Cheap to share.
#[derive(Clone)]
pub struct Commands(Arc<Mutex<(StdRng, CommandFaults)>>);

enum Fate {
    Works(Duration),
    Fails,
    FailsAfter,
    Hangs,
}

impl Commands {
    /// Commands that work, and whose chances come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new((StdRng::seed_from_u64(seed), CommandFaults::default()))))
    }

    /// Sets how likely faults are from now on.
    pub fn set(&self, faults: CommandFaults) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = faults;
    }

    fn draw(&self) -> Fate {
        let (random, faults) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lot = random.random_range(0..1000);
        let takes = Duration::from_millis(random.random_range(3..60));
        let CommandFaults { fails, fails_after, hangs, slow } = *faults;
        match lot {
            lot if lot < fails => Fate::Fails,
            lot if lot < fails + fails_after => Fate::FailsAfter,
            lot if lot < fails + fails_after + hangs => Fate::Hangs,
            lot if lot < fails + fails_after + hangs + slow => Fate::Works(takes * 50),
            _ => Fate::Works(takes),
        }
    }
}

/// One node, as its satellite sees it.
pub(crate) struct FaultyHost {
    pub(crate) node: String,
    pub(crate) host: SimHost,
    pub(crate) commands: Commands,
    pub(crate) trace: Trace,
    pub(crate) fired: Fired,
}

impl FaultyHost {
    fn failed(&self, step: &Step) -> HostError {
        CommandError::Failed {
            command: step.verb().to_owned(),
            code: Some(1),
            message: "the simulation says so".to_owned(),
        }
        .into()
    }
}

#[async_trait]
impl Host for FaultyHost {
    async fn facts(&self) -> Facts {
        self.host.facts().await
    }

    async fn numbers(&self) -> Numbers {
        self.host.numbers().await
    }

    async fn pool(&self, provider: &Provider) -> Result<PoolFound, HostError> {
        self.host.pool(provider).await
    }

    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound> {
        sleep(Duration::from_millis(5)).await;
        self.host.look(subjects).await
    }

    async fn execute(&self, step: &Step, deadline: Duration) -> Result<(), HostError> {
        let fate = self.commands.draw();
        let done = match fate {
            Fate::Works(takes) => {
                if takes > Duration::from_secs(1) {
                    self.fired.note(FaultKind::SlowCommand);
                }
                sleep(takes / 2).await;
                let done = self.host.execute(step, deadline).await;
                sleep(takes / 2).await;
                done
            }
            Fate::Fails => {
                self.fired.note(FaultKind::FailingCommand);
                Err(self.failed(step))
            }
            Fate::FailsAfter => {
                self.fired.note(FaultKind::CommandFailsAfterWorking);
                // What it refuses by itself is of no interest: it fails in any case.
                let _ = self.host.execute(step, deadline).await;
                Err(self.failed(step))
            }
            Fate::Hangs => {
                self.fired.note(FaultKind::HungCommand);
                sleep(deadline).await;
                Err(HostError::TimedOut { what: step.verb().to_owned(), deadline })
            }
        };
        let outcome = done.as_ref().err().map_or_else(|| "done".to_owned(), ToString::to_string);
        self.trace.add(&self.node, format_args!("{} {}: {outcome}", step.verb(), object(step)));
        done
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.host.changes()
    }
}

/// What a step is about.
fn object(step: &Step) -> &str {
    match step {
        Step::EnsureBackingVolume(volume) | Step::RemoveBackingVolume(volume) => &volume.name,
        Step::CreateMetadata(metadata) => &metadata.drbd_name,
        Step::WriteConfiguration(configuration)
        | Step::BringUp { configuration, .. }
        | Step::AttachDisk { configuration }
        | Step::Adjust { configuration } => &configuration.drbd_name,
        Step::Connect(connection) | Step::TurnAway(connection) => &connection.configuration.drbd_name,
        Step::OpenGate(gate) => &gate.name,
        Step::CloseGate { name } | Step::FailGate { name } => name,
        Step::RemoveConfiguration { drbd_name }
        | Step::Promote { drbd_name, .. }
        | Step::Demote { drbd_name, .. }
        | Step::DetachForce { drbd_name, .. }
        | Step::ResumeIo { drbd_name, .. }
        | Step::TakeDown { drbd_name } => drbd_name,
    }
}
