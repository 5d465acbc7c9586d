//! A host that counts the steps that are carried out, and fails or hangs where a test says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{PoolFound, ReplicaFound, Subject},
    step::{Provider, Step},
};
use hawser_satellite::host::{Facts, Host, HostError, sim::SimHost};
use tokio::sync::watch;

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail,
    Hang,
}

/// Counts what a simulated host is told to do.
#[derive(Clone)]
pub(crate) struct CountingHost {
    host: SimHost,
    steps: Arc<Mutex<Vec<&'static str>>>,
    faults: Arc<Mutex<BTreeMap<String, Fault>>>,
    adjusting: Arc<Mutex<Option<Fault>>>,
    deaf: Arc<Mutex<bool>>,
    pool_looks: Arc<Mutex<u64>>,
}

impl CountingHost {
    pub(crate) fn new(host: SimHost) -> Self {
        Self {
            host,
            steps: Arc::default(),
            faults: Arc::default(),
            adjusting: Arc::default(),
            deaf: Arc::default(),
            pool_looks: Arc::default(),
        }
    }

    /// The program that uses it is another one now.
    pub(crate) fn open_anew(&mut self, host: SimHost) {
        self.host = host;
    }

    /// How often the pool was looked at.
    pub(crate) fn pool_looks(&self) -> u64 {
        *self.pool_looks.lock().unwrap()
    }

    /// Verbs of the steps since the last call.
    pub(crate) fn take_steps(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.steps.lock().unwrap())
    }

    /// From now on, steps that create the volume `backing_name` come to harm.
    pub(crate) fn break_creation_of(&self, backing_name: &str, fault: Option<Fault>) {
        let mut faults = self.faults.lock().unwrap();
        match fault {
            Some(fault) => faults.insert(backing_name.to_owned(), fault),
            None => faults.remove(backing_name),
        };
    }

    /// From now on, following a changed configuration comes to harm.
    pub(crate) fn break_adjusting(&self, fault: Option<Fault>) {
        *self.adjusting.lock().unwrap() = fault;
    }

    /// From now on, no change is reported: as where something happens that the kernel has no event for.
    pub(crate) fn report_no_changes(&self) {
        *self.deaf.lock().unwrap() = true;
    }

    fn fault(&self, step: &Step) -> Option<Fault> {
        match step {
            Step::EnsureBackingVolume(volume) => self.faults.lock().unwrap().get(&volume.name).copied(),
            Step::Adjust { .. } => *self.adjusting.lock().unwrap(),
            _ => None,
        }
    }
}

#[async_trait]
impl Host for CountingHost {
    async fn facts(&self) -> Facts {
        self.host.facts().await
    }

    async fn pool(&self, provider: &Provider) -> Result<PoolFound, HostError> {
        *self.pool_looks.lock().unwrap() += 1;
        self.host.pool(provider).await
    }

    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound> {
        self.host.look(subjects).await
    }

    async fn execute(&self, step: &Step, deadline: Duration) -> Result<(), HostError> {
        self.steps.lock().unwrap().push(step.verb());
        match self.fault(step) {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Fail) => {
                Err(HostError::Refused { object: "volume".into(), reason: "the pool is full".into() })
            }
            None => self.host.execute(step, deadline).await,
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.host.changes();
        let (reported, receiver) = watch::channel(0);
        let deaf = Arc::clone(&self.deaf);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                if !*deaf.lock().unwrap() {
                    reported.send_modify(|count| *count += 1);
                }
            }
        });
        receiver
    }
}
