//! The one stream to the controllers: dialled by the satellite, to any of them, again and again.
//!
//! Documents come down and go through the ledger before anybody obeys them; reports go up. It must never
//! decide what a document means, and never keep a stream on which the leader is silent.

use std::{sync::Arc, time::Duration};

use hawser_plan::desired;
use hawser_process::tls::RestoreVerifier;
use hawser_proto::v1::{
    self, controller_message, satellite_message, session_service_client::SessionServiceClient,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    controllers::Controllers,
    host::{Facts, Host},
    ledger::{Ledger, Refused},
    metrics::Metrics,
    report::{Board, Changes},
    restore,
};

/// Without the leader's heartbeat for this long, another controller is dialled: a power cut sends no reset.
const SILENCE: Duration = Duration::from_millis(1500);
/// A controller that takes a stream has to say so within this time.
const WELCOME: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// An answer to a probe is of use for 5 s.
const PROBE: Duration = Duration::from_secs(4);
const QUEUE: usize = 64;
/// A document for 500 replicas is well below this.
const LARGEST_DOCUMENT: usize = 16 << 20;

/// The link to the controllers.
pub(crate) struct Link {
    pub(crate) cluster_id: String,
    pub(crate) node: String,
    pub(crate) facts: Facts,
    pub(crate) restores: RestoreVerifier,
    pub(crate) controllers: Arc<Controllers>,
    pub(crate) ledger: Ledger,
    pub(crate) board: Board,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) seed: u64,
}

/// What the ledger has to be asked about, in the order in which it came.
enum Received {
    /// An encoded document.
    Document(Vec<u8>),
    /// That the cluster was restored.
    Restored(v1::RestoreNotice),
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Dial(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error("it did not take the session within {} s", WELCOME.as_secs())]
    NoWelcome,
    #[error("the leader was silent for {} ms", SILENCE.as_millis())]
    Silent,
    #[error("it closed the session")]
    Closed,
    #[error("the satellite is ending")]
    Cancelled,
}

impl Link {
    /// Keeps a session until `cancelled`.
    pub(crate) async fn run(self, cancelled: CancellationToken) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut pause = FIRST_PAUSE;
        let mut controller = 0;
        while !cancelled.is_cancelled() {
            let began = Instant::now();
            let name = self.controllers.name(controller);
            let ended = tokio::select! {
                () = cancelled.cancelled() => return,
                ended = self.session(controller, &cancelled) => ended,
            };
            self.metrics.connected.set(0);
            tracing::info!(controller = name, reason = %ended, "no session");
            controller = (controller + 1) % self.controllers.len();
            if began.elapsed() > SILENCE * 2 {
                // It was a working session: the next controller is tried at once.
                pause = FIRST_PAUSE;
            } else if controller == 0 {
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    () = sleep(pause.mul_f64(random.random_range(0.5..1.5))) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn session(&self, controller: usize, cancelled: &CancellationToken) -> Ended {
        match self.hold(controller, cancelled).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn hold(
        &self,
        controller: usize,
        cancelled: &CancellationToken,
    ) -> Result<std::convert::Infallible, Ended> {
        let channel = self.controllers.dial(controller).await?;
        let (outbound, queue) = mpsc::channel(QUEUE);
        let mut client = SessionServiceClient::new(channel).max_decoding_message_size(LARGEST_DOCUMENT);
        // The queue has room: nothing waits here.
        let _ = outbound.send(message(satellite_message::Message::Hello(self.hello()))).await;
        let (term, mut inbound) = timeout(WELCOME, async {
            let mut inbound = client.open(ReceiverStream::new(queue)).await?.into_inner();
            let term = welcome(&mut inbound).await?;
            Ok::<_, Ended>((term, inbound))
        })
        .await
        .map_err(|_| Ended::NoWelcome)??;
        tracing::info!(controller = self.controllers.name(controller), term, "session opened");
        self.controllers.heard(controller);
        self.metrics.connected.set(1);
        self.metrics.session_opened();
        let documents = self.take_documents(outbound.clone());
        let mut heard = Instant::now();
        let mut board = self.board.version();
        let mut changes = Changes::default();
        loop {
            board.mark_unchanged();
            let facts = self.board.facts();
            if let Some(report) = changes.next(&facts) {
                let report = message(satellite_message::Message::Report(report));
                tokio::select! {
                    sent = outbound.send(report) => sent.map_err(|_| Ended::Closed)?,
                    () = sleep_until(heard + SILENCE) => return Err(Ended::Silent),
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return Err(Ended::Cancelled),
                () = sleep_until(heard + SILENCE) => return Err(Ended::Silent),
                () = sleep_until(changes.due(&facts)) => {}
                // The board lives as long as the link does.
                _ = board.changed() => {}
                received = inbound.message() => match received?.ok_or(Ended::Closed)?.message {
                    Some(controller_message::Message::Document(bytes)) => {
                        // Whoever takes them ends with this session.
                        let _ = documents.send(Received::Document(bytes));
                    }
                    Some(controller_message::Message::Restored(notice)) => {
                        let _ = documents.send(Received::Restored(notice));
                    }
                    Some(controller_message::Message::Heartbeat(_)) => heard = Instant::now(),
                    Some(controller_message::Message::ProbePool(probe)) => {
                        self.probe(probe, outbound.clone());
                    }
                    Some(controller_message::Message::Welcome(_)) | None => {}
                }
            }
        }
    }

    fn hello(&self) -> v1::Hello {
        let accepted = self.ledger.document().borrow().clone();
        let (generation, version) = match &self.facts.drbd {
            Some((hawser_plan::step::Generation::V8_4, version)) => {
                (v1::DrbdGeneration::DrbdGeneration84, version.clone())
            }
            Some((hawser_plan::step::Generation::V9, version)) => {
                (v1::DrbdGeneration::DrbdGeneration9, version.clone())
            }
            None => (v1::DrbdGeneration::Unspecified, String::new()),
        };
        v1::Hello {
            cluster_id: self.cluster_id.clone(),
            node: self.node.clone(),
            observed: Some(v1::NodeObserved {
                boot_id: self.facts.boot_id.clone(),
                satellite_version: env!("CARGO_PKG_VERSION").to_owned(),
                kernel_version: self.facts.kernel_version.clone(),
                uname: self.facts.uname.clone(),
                facts: Some(v1::NodeFacts {
                    drbd_generation: generation.into(),
                    drbd_version: version,
                    helper_can_run: self.facts.helper_can_run,
                }),
                missing: self.facts.missing.clone(),
            }),
            lineage: accepted.as_ref().map_or(0, |accepted| accepted.document.lineage),
            revision: accepted.as_ref().map_or(0, |accepted| accepted.document.revision),
            document_sha256: accepted.map(|accepted| accepted.sha256.to_vec()).unwrap_or_default(),
            restore_id: self.ledger.restore().id,
        }
    }

    /// Takes documents in their order, beside the stream: a slow disk must not make the leader seem silent.
    fn take_documents(&self, answers: mpsc::Sender<v1::SatelliteMessage>) -> mpsc::UnboundedSender<Received> {
        let (sender, mut received) = mpsc::unbounded_channel::<Received>();
        let (ledger, metrics) = (self.ledger.clone(), Arc::clone(&self.metrics));
        let (restores, cluster_id) = (self.restores.clone(), self.cluster_id.clone());
        tokio::spawn(async move {
            let mut next = None;
            loop {
                let Some(now) = (match next.take() {
                    Some(next) => Some(next),
                    None => received.recv().await,
                }) else {
                    return;
                };
                let answer = match now {
                    Received::Document(mut bytes) => {
                        // Each is complete: only the last one counts.
                        while let Ok(later) = received.try_recv() {
                            match later {
                                Received::Document(later) => bytes = later,
                                restored => {
                                    next = Some(restored);
                                    break;
                                }
                            }
                        }
                        let answer = take_document(&ledger, &metrics, bytes).await;
                        Some(satellite_message::Message::Answer(answer))
                    }
                    Received::Restored(notice) => {
                        match restore::take(&ledger, &restores, &cluster_id, notice).await {
                            Ok(answer) => answer.map(satellite_message::Message::Inventory),
                            Err(refused) => {
                                tracing::error!(%refused, "the restore of the cluster is not believed");
                                let answer = refusal(&ledger, refused.to_string());
                                Some(satellite_message::Message::Answer(answer))
                            }
                        }
                    }
                };
                if let Some(answer) = answer
                    && answers.send(message(answer)).await.is_err()
                {
                    return;
                }
            }
        });
        sender
    }

    fn probe(&self, probe: v1::ProbePool, answers: mpsc::Sender<v1::SatelliteMessage>) {
        let host = Arc::clone(&self.host);
        tokio::spawn(async move {
            let pool = probed(&*host, &probe).await;
            let answer = v1::PoolProbed { id: probe.id, pool: Some(pool) };
            // The session may have ended meanwhile; the leader asks again in the next.
            let _ = answers.send(message(satellite_message::Message::PoolProbed(answer))).await;
        });
    }
}

async fn welcome(inbound: &mut Streaming<v1::ControllerMessage>) -> Result<u64, Ended> {
    match inbound.message().await?.and_then(|message| message.message) {
        Some(controller_message::Message::Welcome(welcome)) => Ok(welcome.term),
        _ => Err(Ended::Closed),
    }
}

async fn take_document(ledger: &Ledger, metrics: &Metrics, bytes: Vec<u8>) -> v1::DocumentAnswer {
    match ledger.accept(bytes).await {
        Ok(accepted) => {
            let revision = accepted.document.revision;
            tracing::debug!(revision, "document accepted");
            metrics.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
            v1::DocumentAnswer { lineage: accepted.document.lineage, revision, refused: String::new() }
        }
        Err(refused) => {
            metrics.document_refused();
            if matches!(refused, Refused::Older { .. } | Refused::OlderLineage { .. }) {
                tracing::warn!(%refused, "document refused");
            } else {
                tracing::error!(%refused, "document refused");
            }
            refusal(ledger, refused.to_string())
        }
    }
}

/// What is answered where nothing new was accepted: what is held, and why.
fn refusal(ledger: &Ledger, refused: String) -> v1::DocumentAnswer {
    let held = ledger.version();
    v1::DocumentAnswer { lineage: held.lineage.get(), revision: held.revision.get(), refused }
}

async fn probed(host: &dyn Host, probe: &v1::ProbePool) -> v1::PoolObserved {
    use v1::{desired_pool, probe_pool};
    let provider = probe.provider.clone().map(|provider| match provider {
        probe_pool::Provider::LvmThin(thin) => desired_pool::Provider::LvmThin(thin),
        probe_pool::Provider::Lvm(lvm) => desired_pool::Provider::Lvm(lvm),
        probe_pool::Provider::Zfs(zfs) => desired_pool::Provider::Zfs(zfs),
        probe_pool::Provider::Directory(directory) => desired_pool::Provider::Directory(directory),
    });
    let pool = v1::DesiredPool { provider, ..v1::DesiredPool::default() };
    let Some(provider) = desired::provider(&pool) else {
        let problem = "this satellite does not know that kind of pool".to_owned();
        return v1::PoolObserved { problem, ..v1::PoolObserved::default() };
    };
    let asked = timeout(PROBE, host.pool(&provider)).await;
    let asked = asked.unwrap_or_else(|_| Err(crate::pools::late(PROBE)));
    crate::pools::observed(v1::PoolObserved::default(), asked)
}

fn message(message: satellite_message::Message) -> v1::SatelliteMessage {
    v1::SatelliteMessage { message: Some(message) }
}
