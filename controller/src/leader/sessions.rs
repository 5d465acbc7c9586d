//! The open sessions of a reign: at most one per node, the newest wins.
//!
//! It knows who is connected and carries questions to them. What they report goes to `observed`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hawser_proto::v1::{self, controller_message, probe_pool};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for a slow satellite.
const OUTBOUND_QUEUE: usize = 16;
/// A satellite that has not looked at a pool within this time will not.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// Downward messages of a session, before they are on the wire.
pub type Outbound = mpsc::Receiver<v1::ControllerMessage>;

/// All open sessions.
#[derive(Debug)]
pub struct Sessions {
    term: u64,
    opened: Arc<AtomicU64>,
    by_node: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// One open session.
#[derive(Debug)]
pub struct Session {
    /// Unique among all sessions of all reigns: the term and a count.
    pub id: u64,
    /// The node whose satellite opened it.
    pub node: String,
    /// Cancelled when a newer session of the node opens.
    pub superseded: CancellationToken,
    outbound: mpsc::Sender<v1::ControllerMessage>,
    questions: Mutex<BTreeMap<u64, oneshot::Sender<v1::PoolObserved>>>,
    asked: AtomicU64,
}

/// Why a node could not say what a pool looks like.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProbeError {
    /// Nobody to ask.
    #[error(
        "node {0} is not connected, so it cannot be asked for the pool; start hawser-satellite there and try again"
    )]
    Offline(String),
    /// It was connected but did not answer.
    #[error("node {0} did not say within {limit} seconds whether the pool is there; try again", limit = PROBE_TIMEOUT.as_secs())]
    NoAnswer(String),
}

impl Sessions {
    pub(super) fn new(term: u64, opened: Arc<AtomicU64>) -> Self {
        Self { term, opened, by_node: Mutex::default() }
    }

    /// Opens a session, which welcomes the satellite first; an older one of the node is superseded.
    ///
    /// # Panics
    /// Never: see the reason below.
    pub fn open(&self, node: &str) -> (Arc<Session>, Outbound) {
        let count = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let id = (self.term << 32) | (count & 0xffff_ffff);
        let (outbound, receiver) = mpsc::channel(OUTBOUND_QUEUE);
        // Before anybody else can say something through this session: a satellite takes anything else that comes
        // first for the end, and somebody may be waiting to ask this node for a pool.
        let welcome = controller_message::Message::Welcome(v1::Welcome { term: self.term, session: id });
        outbound
            .try_send(v1::ControllerMessage { message: Some(welcome) })
            .expect("the queue is empty and its receiver is at hand");
        let session = Arc::new(Session {
            id,
            node: node.to_owned(),
            superseded: CancellationToken::new(),
            outbound,
            questions: Mutex::default(),
            asked: AtomicU64::new(0),
        });
        if let Some(older) = self.lock().insert(node.to_owned(), session.clone()) {
            older.superseded.cancel();
        }
        (session, receiver)
    }

    /// Forgets a session, unless it was superseded.
    pub fn close(&self, session: &Session) {
        let mut sessions = self.lock();
        if sessions.get(&session.node).is_some_and(|open| open.id == session.id) {
            sessions.remove(&session.node);
        }
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Asks a node what an unregistered pool looks like. Changes nothing.
    ///
    /// # Errors
    /// Where the node is not connected or does not answer.
    pub async fn probe_pool(
        &self,
        node: &str,
        provider: probe_pool::Provider,
    ) -> Result<v1::PoolObserved, ProbeError> {
        let session = self.lock().get(node).cloned();
        let session = session.ok_or_else(|| ProbeError::Offline(node.to_owned()))?;
        match timeout(PROBE_TIMEOUT, session.probe_pool(provider)).await {
            Ok(Some(pool)) => Ok(pool),
            Ok(None) => Err(ProbeError::Offline(node.to_owned())),
            Err(_) => Err(ProbeError::NoAnswer(node.to_owned())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Queues a message; false once nobody will read it.
    pub async fn send(&self, message: controller_message::Message) -> bool {
        self.outbound.send(v1::ControllerMessage { message: Some(message) }).await.is_ok()
    }

    /// Resolves when the satellite no longer reads.
    pub async fn gone(&self) {
        self.outbound.closed().await;
    }

    /// Hands an answer to whoever asked. One that nobody waits for any more is dropped.
    pub fn answered(&self, answer: v1::PoolProbed) {
        let asker = self.questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.id);
        if let (Some(asker), Some(pool)) = (asker, answer.pool) {
            // The asker may have given up.
            let _ = asker.send(pool);
        }
    }

    /// `None` where the session ends first.
    async fn probe_pool(&self, provider: probe_pool::Provider) -> Option<v1::PoolObserved> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (asker, answer) = oneshot::channel();
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, asker);
        let question = v1::ProbePool { id, provider: Some(provider) };
        if !self.send(controller_message::Message::ProbePool(question)).await {
            return None;
        }
        tokio::select! {
            answer = answer => answer.ok(),
            () = self.superseded.cancelled() => None,
            () = self.gone() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn provider() -> probe_pool::Provider {
        probe_pool::Provider::Lvm(v1::LvmProvider { volume_group: "vg".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_session_of_a_node_wins() {
        let sessions = Sessions::new(3, Arc::default());
        let (first, _first_outbound) = sessions.open("n1");
        let (second, _second_outbound) = sessions.open("n1");
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled());
        assert_eq!((first.id, second.id), ((3 << 32) + 1, (3 << 32) + 2));

        sessions.close(&first);
        assert_eq!(sessions.count(), 1, "a superseded session does not close its successor");
        sessions.close(&second);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_comes_after_the_welcome_and_gets_the_answer_with_its_id() {
        let sessions = Sessions::new(1, Arc::default());
        let (session, mut outbound) = sessions.open("n1");
        let satellite = async {
            let first = outbound.recv().await.unwrap().message.unwrap();
            let welcome = v1::Welcome { term: 1, session: session.id };
            assert_eq!(first, controller_message::Message::Welcome(welcome), "whoever asks meanwhile");
            let message = outbound.recv().await.unwrap().message.unwrap();
            let controller_message::Message::ProbePool(question) = message else { panic!("{message:?}") };
            assert_eq!(question.provider, Some(provider()));
            session.answered(v1::PoolProbed { id: question.id + 1, pool: Some(Default::default()) });
            let pool = v1::PoolObserved { capacity_bytes: 7, ..Default::default() };
            session.answered(v1::PoolProbed { id: question.id, pool: Some(pool) });
        };
        let (answer, ()) = tokio::join!(sessions.probe_pool("n1", provider()), satellite);
        assert_eq!(answer.unwrap().capacity_bytes, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_says_why() {
        let sessions = Sessions::new(1, Arc::default());
        assert_eq!(
            sessions.probe_pool("n1", provider()).await,
            Err(ProbeError::Offline("n1".into())),
            "nobody is connected"
        );
        let (_session, outbound) = sessions.open("n1");
        assert_eq!(sessions.probe_pool("n1", provider()).await, Err(ProbeError::NoAnswer("n1".into())));
        drop(outbound);
        assert_eq!(sessions.probe_pool("n1", provider()).await, Err(ProbeError::Offline("n1".into())));
    }
}
