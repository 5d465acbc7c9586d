//! How many steps run at once, and the breakers that stop storage commands where the kernel swallows them: one
//! for each volume group, since a dead one says nothing of the disks of another.
//!
//! It must never hold up a step that touches no storage because of one that does, nor a step on which a consumer's
//! I/O may hang because of any other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hawser_plan::step::Step;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Steps at once, on the whole node; urgent ones not counted.
const STEPS: usize = 8;
/// Commands that got stuck at a volume group before no new one is started there.
const STUCK: u32 = 3;
/// After this time one storage command may try whether the volume group has recovered.
const RETRY: Duration = Duration::from_secs(60);

/// The limits of one node.
pub(crate) struct Limits {
    steps: Arc<Semaphore>,
    domains: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// By contention domain; under `None` what touches no storage is counted, and never refused.
    breakers: Mutex<BTreeMap<Option<String>, Breaker>>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It worked.
    Worked,
    /// It failed, or had no time to begin: that says nothing of the disks.
    Failed,
    /// A command of it is stuck in the kernel.
    Stuck,
}

#[derive(Default)]
struct Breaker {
    stuck: u32,
    next_try: Option<Instant>,
}

/// Held while a step runs.
pub(super) struct Permit {
    _step: Option<OwnedSemaphorePermit>,
    _domain: Option<OwnedSemaphorePermit>,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self { steps: Arc::new(Semaphore::new(STEPS)), domains: Mutex::default(), breakers: Mutex::default() }
    }

    /// Waits until `step` may run. First for its volume group, so that whoever queues there takes no place
    /// from others.
    ///
    /// # Errors
    /// Why no storage command is started now.
    pub(super) async fn admit(&self, step: &Step) -> Result<Permit, String> {
        let storage = step.storage();
        if let Some(provider) = storage {
            self.check_breaker(provider.contention_domain())?;
        }
        let domain = match storage.filter(|_| step.changes_pool()) {
            None => None,
            Some(provider) => Some(acquire(self.domain(provider.contention_domain())).await?),
        };
        let step = if step.is_urgent() { None } else { Some(acquire(Arc::clone(&self.steps)).await?) };
        Ok(Permit { _step: step, _domain: domain })
    }

    /// Notes how a step ended.
    pub(super) fn ended(&self, step: &Step, ending: Ending) {
        let domain = step.storage().map(|provider| provider.contention_domain().to_owned());
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        match ending {
            Ending::Worked => {
                breakers.remove(&domain);
            }
            Ending::Failed => {}
            Ending::Stuck => {
                let breaker = breakers.entry(domain).or_default();
                breaker.stuck = breaker.stuck.saturating_add(1);
                if breaker.stuck >= STUCK {
                    breaker.next_try = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Commands that got stuck since one of their kind last worked.
    pub(crate) fn stuck(&self) -> u32 {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.values().fold(0, |sum, breaker| sum.saturating_add(breaker.stuck))
    }

    fn check_breaker(&self, domain: &str) -> Result<(), String> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(breaker) = breakers.get_mut(&Some(domain.to_owned())) else { return Ok(()) };
        match breaker.next_try {
            Some(next_try) if next_try > Instant::now() => Err(format!(
                "the storage {domain} is wedged: {} commands are stuck in the kernel, no step that touches it is \
                 started; look at its disks and the node's kernel log",
                breaker.stuck
            )),
            Some(_) => {
                breaker.next_try = Some(Instant::now() + RETRY);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn domain(&self, name: &str) -> Arc<Semaphore> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let one = || Arc::new(Semaphore::new(1));
        Arc::clone(domains.entry(name.to_owned()).or_insert_with(one))
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, String> {
    semaphore.acquire_owned().await.map_err(|_| "the satellite is ending".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::future::poll_immediate;
    use hawser_plan::step::{BackingVolume, Configuration, DrbdVolume, Mark, Provider};
    use hawser_proto::ids::Incarnation;

    use super::*;
    use crate::exec::fixture::configuration;

    fn storage_in(volume_group: &str) -> Step {
        let replica_incarnation = Incarnation::new(1);
        let mark = Mark { cluster_id: "c".into(), resource: "r".into(), replica_incarnation, volume: 0 };
        let provider = Provider::Lvm { volume_group: volume_group.into() };
        Step::EnsureBackingVolume(BackingVolume { provider, name: "r.1-0".into(), size_bytes: 1, mark })
    }

    fn drbd() -> Step {
        Step::TakeDown { drbd_name: "r.1".into() }
    }

    fn attach_in(volume_group: &str) -> Step {
        let Step::EnsureBackingVolume(backing) = storage_in(volume_group) else {
            unreachable!("it was just made")
        };
        let volume = DrbdVolume { number: 0, minor: 1000, size_bytes: 1, backing: Some(backing) };
        let configuration = Configuration { volumes: vec![volume], ..configuration("r.1") };
        Step::AttachDisk { configuration }
    }

    #[tokio::test]
    async fn one_storage_command_per_volume_group_and_others_beside_it() {
        let limits = Limits::new();

        let held = limits.admit(&storage_in("vg0")).await.unwrap();

        assert!(limits.admit(&storage_in("vg1")).await.is_ok());
        assert!(limits.admit(&drbd()).await.is_ok());
        let step = storage_in("vg0");
        let mut second = std::pin::pin!(limits.admit(&step));
        assert!(poll_once(second.as_mut()).await.is_none(), "vg0 is busy");
        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_queue_at_one_volume_group_takes_no_place_from_others() {
        let limits = Limits::new();
        let _held = limits.admit(&storage_in("vg0")).await.unwrap();
        let step = storage_in("vg0");
        let mut waiting: Vec<_> = (0..STEPS).map(|_| Box::pin(limits.admit(&step))).collect();
        for one in &mut waiting {
            assert!(poll_once(one.as_mut()).await.is_none());
        }

        assert!(limits.admit(&drbd()).await.is_ok());
    }

    #[tokio::test]
    async fn what_a_consumers_io_hangs_on_waits_for_nothing() {
        let limits = Limits::new();
        let mut hanging = Vec::new();
        for _ in 0..STEPS {
            hanging.push(limits.admit(&drbd()).await.unwrap());
        }

        let step = drbd();
        assert!(
            poll_once(std::pin::pin!(limits.admit(&step)).as_mut()).await.is_none(),
            "all places are taken"
        );
        for urgent in [
            Step::ResumeIo { drbd_name: "r.1".into(), minor: 1000 },
            Step::DetachForce { drbd_name: "r.1".into(), minor: 1000 },
            Step::FailGate { name: "hawser-r.1-0".into() },
            Step::CloseGate { name: "hawser-r.1-0".into() },
        ] {
            assert!(poll_once(std::pin::pin!(limits.admit(&urgent)).as_mut()).await.is_some(), "{urgent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_disk_is_attached_where_disks_do_not_answer_and_others_are() {
        let limits = Limits::new();
        for _ in 0..STUCK {
            limits.ended(&attach_in("vg0"), Ending::Stuck);
        }

        assert!(limits.admit(&attach_in("vg0")).await.is_err());
        assert!(limits.admit(&storage_in("vg0")).await.is_err());
        assert!(limits.admit(&attach_in("vg1")).await.is_ok(), "on a healthy disk");
        assert!(limits.admit(&drbd()).await.is_ok());
        assert_eq!(limits.stuck(), STUCK);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_step_that_worked_there_shows_that_disks_answer_again() {
        let limits = Limits::new();
        for _ in 0..STUCK {
            limits.ended(&attach_in("vg0"), Ending::Stuck);
            limits.ended(&attach_in("vg0"), Ending::Failed);
            limits.ended(&attach_in("vg1"), Ending::Worked);
            limits.ended(&drbd(), Ending::Worked);
        }
        assert!(limits.admit(&attach_in("vg0")).await.is_err());

        tokio::time::advance(RETRY).await;
        assert!(limits.admit(&attach_in("vg0")).await.is_ok(), "one may try");
        limits.ended(&attach_in("vg0"), Ending::Failed);
        assert!(limits.admit(&attach_in("vg0")).await.is_err());

        limits.ended(&attach_in("vg0"), Ending::Worked);
        assert!(limits.admit(&attach_in("vg0")).await.is_ok());
    }

    #[tokio::test]
    async fn what_touches_no_storage_is_counted_and_never_refused() {
        let limits = Limits::new();
        for _ in 0..STUCK {
            limits.ended(&drbd(), Ending::Stuck);
        }

        assert_eq!(limits.stuck(), STUCK);
        assert!(limits.admit(&drbd()).await.is_ok() && limits.admit(&storage_in("vg0")).await.is_ok());
        limits.ended(&drbd(), Ending::Worked);
        assert_eq!(limits.stuck(), 0);
    }

    #[tokio::test]
    async fn disks_are_attached_beside_each_other_and_beside_changes_of_their_pool() {
        let limits = Limits::new();
        let _held = limits.admit(&storage_in("vg0")).await.unwrap();

        let one = limits.admit(&attach_in("vg0")).await;
        assert!(one.is_ok() && limits.admit(&attach_in("vg0")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_stuck_commands_stop_storage_commands_until_one_works_again() {
        let limits = Limits::new();
        for _ in 0..STUCK {
            assert!(limits.admit(&storage_in("vg0")).await.is_ok());
            limits.ended(&storage_in("vg0"), Ending::Stuck);
        }

        let refused = limits.admit(&storage_in("vg0")).await.err().unwrap();
        assert!(refused.contains("3 commands are stuck"), "{refused}");
        assert!(limits.admit(&drbd()).await.is_ok(), "DRBD's commands go on");

        tokio::time::advance(RETRY).await;
        assert!(limits.admit(&storage_in("vg0")).await.is_ok(), "one may try");
        assert!(limits.admit(&storage_in("vg0")).await.is_err(), "and only one");
        limits.ended(&storage_in("vg0"), Ending::Worked);
        assert!(limits.admit(&storage_in("vg0")).await.is_ok());
        assert_eq!(limits.stuck(), 0);
    }

    async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        poll_immediate(future).await
    }
}
