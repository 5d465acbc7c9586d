//! What people do with the cluster meanwhile: they make a volume, attach it, write records, read them back, move to
//! another node, and delete it.
//!
//! Each worker has a volume of its own, so that it knows what must be on it. What one does is in a file of its own by
//! kind: `resources`, `replicas`, `attachments`, `records`; what has to be there before, in `furnish`. Beside them,
//! `registrar` asks about what others change, and `nonsense` asks for what cannot be.

mod attachments;
mod furnish;
mod nonsense;
mod records;
mod registrar;
mod replicas;
mod resources;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hawser_satellite::host::sim::SimWorld;
use rand::{Rng, seq::IndexedRandom};
use tokio::time::sleep;

use self::records::Records;
use crate::{api::Administrator, history::History, trace::Trace, violations::Violations};

pub(crate) use self::{
    furnish::{Furnished, furnish},
    nonsense::{NEVER, Nonsense},
    registrar::Registrar,
};

/// How long a call may go unanswered before the worker does something else.
const CALL: Duration = Duration::from_secs(30);
/// Between two looks at what has to come about.
const POLL: Duration = Duration::from_millis(250);

/// What everybody has who works with the cluster.
pub(crate) struct Staff {
    pub(crate) administrator: Administrator,
    pub(crate) history: History,
    pub(crate) trace: Trace,
    pub(crate) violations: Violations,
    /// Nothing new is begun any more.
    pub(crate) calm: Arc<AtomicBool>,
    /// Everything is as it should stay.
    pub(crate) finished: Arc<AtomicBool>,
    /// Pauses are so many times as long.
    pub(crate) leisure: u64,
}

impl Staff {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.administrator.draw(|random| random.random_range(range))
    }
}

/// One worker and its volume.
pub(crate) struct Worker {
    pub(crate) resource: String,
    pub(crate) administrator: Administrator,
    pub(crate) world: SimWorld,
    pub(crate) trace: Trace,
    pub(crate) violations: Violations,
    /// Nothing new is begun any more.
    pub(crate) calm: Arc<AtomicBool>,
    /// Everything is as it should stay.
    pub(crate) finished: Arc<AtomicBool>,
    /// Pauses are so many times as long.
    pub(crate) leisure: u64,
    history: History,
    /// Its number among those who ask about its resource.
    who: AtomicU64,
}

/// Workers ask under this number; the registrars have the ones below.
const WORKER: u64 = 500;

impl Worker {
    /// One that works on a resource.
    pub(crate) fn new(resource: String, world: SimWorld, staff: Staff) -> Self {
        let Staff { administrator, history, trace, violations, calm, finished, leisure } = staff;
        let who = AtomicU64::new(WORKER);
        Self { resource, administrator, world, trace, violations, calm, finished, leisure, history, who }
    }

    /// Works until it is calm, and leaves a volume behind that is attached and verified.
    pub(crate) async fn work(self) {
        while !self.is_calm() {
            let _ = self.life_of_a_volume(false).await;
        }
        // Whoever waits for the cluster to come to rest does not wait for ever.
        while self.life_of_a_volume(true).await.is_none() {}
        self.finished.store(true, Ordering::Relaxed);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// One volume from its creation to its deletion; to its attachment if it `stays`. `None` where something did not
    /// come about in time.
    async fn life_of_a_volume(&self, stays: bool) -> Option<()> {
        let mut nodes = self.create().await?;
        let mut records = Records::default();
        let rounds = self.draw(1..5);
        for round in 0..rounds {
            self.pause().await;
            let node = self.administrator.draw(|random| nodes.choose(random).cloned())?;
            if let Some(gate) = self.attach(&node).await {
                self.write_and_verify(&node, &gate, &mut records).await;
                if stays && self.is_calm() && self.verified_at_rest(&node, &gate, &mut records).await {
                    return Some(());
                }
            }
            // Attached or not: whoever writes goes on writing.
            if self.draw(0..2) == 0 {
                nodes = self.reshape(nodes).await;
            }
            // Without a detach the next attachment is a take-over, if it may be one.
            if round + 1 == rounds || self.draw(0..3) > 0 {
                self.detach(&nodes).await;
            }
        }
        self.delete(&nodes).await;
        self.pause().await;
        None
    }

    /// Who has work to do at once does not even draw how long to wait.
    async fn pause(&self) {
        if self.leisure > 1 {
            sleep(Duration::from_millis(self.draw(0..self.leisure * 500))).await;
        }
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.administrator.draw(|random| random.random_range(range))
    }
}
