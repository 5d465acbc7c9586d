//! Looking: gathers the wishes of all workers into few looks, each under the revision that had been accepted
//! before the kernel was asked.
//!
//! That revision is what makes a report a proof ("seen after entry R was committed"); it must never be read
//! after the look has begun.

use std::{sync::Arc, time::Duration};

use hawser_plan::observed::{ReplicaFound, Subject};
use hawser_proto::ids::DocumentVersion;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::sleep,
};

use crate::{host::Host, ledger::Ledger};

/// Wishes that come in within this time share a look.
const GATHER: Duration = Duration::from_millis(5);
/// Looks at once. More than one, so that a look that hangs does not blind the others.
const LOOKS: usize = 4;

/// What was found, and under which document.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Which document had been accepted before the look began.
    pub version: DocumentVersion,
    /// What was found.
    pub found: ReplicaFound,
}

/// Looks on behalf of the workers. Cheap to share.
#[derive(Clone)]
pub struct Observer {
    wishes: mpsc::UnboundedSender<Wish>,
}

struct Wish {
    subject: Subject,
    answer: oneshot::Sender<Observation>,
}

impl Observer {
    /// Starts looking; it ends when the last clone is dropped.
    pub fn start(host: Arc<dyn Host>, ledger: Ledger) -> Self {
        let (wishes, receiver) = mpsc::unbounded_channel();
        tokio::spawn(gather(host, ledger, receiver));
        Self { wishes }
    }

    /// Looks at `subject`, later than this call. `None` if the satellite is ending.
    pub async fn look(&self, subject: Subject) -> Option<Observation> {
        let (answer, answered) = oneshot::channel();
        self.wishes.send(Wish { subject, answer }).ok()?;
        answered.await.ok()
    }
}

async fn gather(host: Arc<dyn Host>, ledger: Ledger, mut wishes: mpsc::UnboundedReceiver<Wish>) {
    let looks = Arc::new(Semaphore::new(LOOKS));
    while let Some(first) = wishes.recv().await {
        sleep(GATHER).await;
        let Ok(permit) = Arc::clone(&looks).acquire_owned().await else { return };
        let mut batch = vec![first];
        while let Ok(wish) = wishes.try_recv() {
            batch.push(wish);
        }
        let version = ledger.version();
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let (subjects, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|wish| (wish.subject, wish.answer)).unzip();
            let found = host.look(&subjects).await;
            for (answer, found) in answers.into_iter().zip(found) {
                // Whoever asked may have ended meanwhile.
                let _ = answer.send(Observation { version, found });
            }
            drop(permit);
        });
    }
}
