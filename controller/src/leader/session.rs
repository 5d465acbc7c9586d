//! One satellite's session: the checks of its hello, then documents and heartbeats down, facts up.
//!
//! It must never send an order of a reign that has ended, and never trust a satellite about a node that is not
//! in its certificate.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use hawser_proto::{
    ids::DocumentVersion,
    v1::{self, controller_message, satellite_message},
};
use hawser_state::State;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant, timeout};

use super::{
    Reign,
    observed::{DocumentStanding, NodeSeen, ReportRefused},
    sessions::{Outbound, Session},
};
use crate::view::View;

/// A satellite that dials without saying who it is, is cut off after this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a session was refused or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The first message was something else, or none came.
    #[error("a session begins with a hello, and exactly one")]
    NoHello,
    /// The certificate is another node's.
    #[error(
        "the certificate belongs to the satellite of node {certificate}, but it speaks for node {node}; a satellite \
         speaks for its own node only: correct `node` in its satellite.toml or give it the certificate of {node}"
    )]
    WrongNode {
        /// Name in the certificate.
        certificate: String,
        /// Name in the hello.
        node: String,
    },
    /// Its ledger is another cluster's.
    #[error("node {node} belongs to cluster {theirs}, but this is cluster {ours}")]
    WrongCluster {
        /// The node.
        node: String,
        /// In the hello.
        theirs: String,
        /// Of this cluster.
        ours: String,
    },
    /// Nobody created the node.
    #[error("node {0} is not registered; run `hawser node create {0} --address IP`")]
    NotRegistered(String),
    /// It was declared lost.
    #[error(
        "node {0} was declared lost, and the others go on without what it holds: nothing is sent to it, and nothing that \
         it has may be used. Wipe its disks and its ledger, then run `hawser node delete {0}` and `hawser node create \
         {0} --address IP`"
    )]
    Lost(String),
    /// It has obeyed orders that this cluster does not know of.
    #[error(
        "node {node} has obeyed orders of {theirs}, but this cluster is at {ours}: its controllers may have lost \
         what they acknowledged; nothing is sent to it"
    )]
    Ahead {
        /// The node.
        node: String,
        /// What its ledger holds.
        theirs: DocumentVersion,
        /// What it is to have.
        ours: DocumentVersion,
    },
    /// It has obeyed orders of another restore of the same backup.
    #[error(
        "node {node} has accepted another restore of this cluster ({theirs:016x}, and this one is {ours:016x}; 0 is none): orders \
         of both would be taken for each other, so nothing is sent to it. If that other one is given up, run \
         `hawser cluster restore` again with a --lineage that is higher than any that was ever used"
    )]
    OtherRestore {
        /// The node.
        node: String,
        /// What its ledger has accepted.
        theirs: u64,
        /// How this lineage began.
        ours: u64,
    },
    /// A report that cannot be taken.
    #[error(transparent)]
    Report(#[from] ReportRefused),
    /// A newer session of the node opened.
    #[error("a newer session of the node is open; this one ends")]
    Superseded,
    /// This member no longer leads.
    #[error("this controller no longer leads; dial again")]
    ReignEnded,
    /// The stream broke.
    #[error("the stream ended: {0}")]
    Broken(String),
}

/// What arrives from a satellite.
pub trait Inbound:
    Stream<Item = Result<v1::SatelliteMessage, tonic::Status>> + Send + Unpin + 'static
{
}
impl<S> Inbound for S where
    S: Stream<Item = Result<v1::SatelliteMessage, tonic::Status>> + Send + Unpin + 'static
{
}

/// Checks the hello and opens the session. The future that is returned runs it until it ends; nothing of it
/// happens unless it is polled.
///
/// # Errors
/// Why the satellite is refused.
pub async fn open<S: Inbound>(
    reign: Arc<Reign>,
    view: View,
    certificate: String,
    mut inbound: S,
) -> Result<(Outbound, impl Future<Output = SessionError> + Send + use<S>), SessionError> {
    let hello = match timeout(HELLO_TIMEOUT, inbound.next()).await {
        Ok(Some(Ok(v1::SatelliteMessage { message: Some(satellite_message::Message::Hello(hello)) }))) => {
            hello
        }
        Ok(Some(Err(status))) => return Err(SessionError::Broken(status.message().to_owned())),
        _ => return Err(SessionError::NoHello),
    };
    let document = check(&view, &certificate, &hello)?;
    let lineage = view.state().cluster().lineage();

    let notice = notice(&view.state(), &hello.node);
    let (session, outbound) = reign.sessions.open(&hello.node);
    let sent = hello.version();
    tracing::info!(node = hello.node, session = session.id, "a satellite has connected");
    reign.observed.open(
        &hello.node,
        NodeSeen::opened(session.id, lineage, hello.observed.unwrap_or_default(), document, Instant::now()),
    );
    let running = async move {
        if let Some(notice) = notice {
            session.send(controller_message::Message::Restored(notice)).await;
        }
        let running = Running {
            reign: reign.clone(),
            view,
            session: session.clone(),
            inbound,
            sent,
            unanswered: false,
        };
        let end = running.run().await;
        reign.observed.close(&session.node, session.id);
        reign.sessions.close(&session);
        tracing::info!(node = session.node, session = session.id, reason = %end, "a satellite's session has ended");
        end
    };
    Ok((outbound, running))
}

/// Who it is and what it has obeyed, against the state.
fn check(view: &View, certificate: &str, hello: &v1::Hello) -> Result<DocumentStanding, SessionError> {
    let state = view.state();
    if hello.node != certificate {
        return Err(SessionError::WrongNode {
            certificate: certificate.to_owned(),
            node: hello.node.clone(),
        });
    }
    let cluster = state.cluster();
    if hello.cluster_id != cluster.cluster_id {
        return Err(SessionError::WrongCluster {
            node: hello.node.clone(),
            theirs: hello.cluster_id.clone(),
            ours: cluster.cluster_id.clone(),
        });
    }
    let node = not_lost(&state, &hello.node)?;
    let restore_id = state.restored().map_or(0, |restored| restored.restore_id);
    if hello.version().lineage == cluster.lineage() && hello.restore_id != restore_id {
        return Err(SessionError::OtherRestore {
            node: hello.node.clone(),
            theirs: hello.restore_id,
            ours: restore_id,
        });
    }
    let theirs = hello.version();
    let ours = DocumentVersion { lineage: cluster.lineage(), revision: node.document_revision() };
    if theirs > ours {
        return Err(SessionError::Ahead { node: hello.node.clone(), theirs, ours });
    }
    let differs = theirs == ours
        && state.document(&hello.node).is_some_and(|document| {
            Sha256::digest(document.encode_to_vec())[..] != hello.document_sha256[..]
        });
    if differs {
        tracing::error!(
            node = hello.node,
            revision = hello.revision,
            "ALARM: the satellite holds other orders than this controller renders for the same revision"
        );
    }
    Ok(DocumentStanding { accepted: theirs, refused: String::new(), differs })
}

/// What a satellite is told of a restore, before anything else.
fn notice(state: &State, node: &str) -> Option<v1::RestoreNotice> {
    let restored = state.restored()?;
    let wants_inventory = state.node(node).is_some_and(|node| !state.has_reported(node));
    Some(v1::RestoreNotice { record: restored.record.clone(), wants_inventory })
}

/// A node that orders may be sent to.
fn not_lost<'a>(state: &'a State, name: &str) -> Result<&'a v1::Node, SessionError> {
    match state.node(name) {
        None => Err(SessionError::NotRegistered(name.to_owned())),
        Some(node) if node.is_lost() => Err(SessionError::Lost(name.to_owned())),
        Some(node) => Ok(node),
    }
}

struct Running<S> {
    reign: Arc<Reign>,
    view: View,
    session: Arc<Session>,
    inbound: S,
    /// The newest document that the satellite has or was sent.
    sent: DocumentVersion,
    /// It was sent and not answered yet.
    unanswered: bool,
}

impl<S: Inbound> Running<S> {
    async fn run(mut self) -> SessionError {
        let reign = self.reign.clone();
        let session = self.session.clone();
        tokio::select! {
            biased;
            () = reign.ended.cancelled() => SessionError::ReignEnded,
            () = session.superseded.cancelled() => SessionError::Superseded,
            () = session.gone() => SessionError::Broken("the satellite has gone".into()),
            end = self.converse() => end,
        }
    }

    async fn converse(&mut self) -> SessionError {
        let mut pulse = self.reign.pulse();
        let mut revisions = self.view.revisions();
        loop {
            revisions.mark_unchanged();
            if let Err(end) = self.send_document_if_newer().await {
                return end;
            }
            let heartbeat = tokio::select! {
                message = self.inbound.next() => match self.take(message) {
                    Ok(()) => false,
                    Err(end) => return end,
                },
                // The senders live in the reign and the view, which this holds.
                _ = pulse.changed() => true,
                _ = revisions.changed() => false,
            };
            if heartbeat {
                let heartbeat = v1::Heartbeat { term: self.reign.term };
                self.session.send(controller_message::Message::Heartbeat(heartbeat)).await;
            }
        }
    }

    /// One at a time: what changes until the satellite has written the last one down goes into the next, however fast
    /// it changes, and no more than one waits in memory.
    async fn send_document_if_newer(&mut self) -> Result<(), SessionError> {
        let node = &self.session.node;
        let state = self.view.state();
        let registered = not_lost(&state, node)?;
        // A restored state is worth nothing before all have said what they hold, and this one before it has.
        if state.is_settling() || !state.has_reported(registered) {
            return Ok(());
        }
        let revision = registered.document_revision();
        let newest = DocumentVersion { lineage: state.cluster().lineage(), revision };
        if newest <= self.sent || self.unanswered {
            return Ok(());
        }
        if let Some(document) = state.document(node) {
            self.session.send(controller_message::Message::Document(document.encode_to_vec())).await;
            self.sent = newest;
            self.unanswered = true;
        }
        Ok(())
    }

    fn take(
        &mut self,
        message: Option<Result<v1::SatelliteMessage, tonic::Status>>,
    ) -> Result<(), SessionError> {
        use satellite_message::Message;
        let message = match message {
            None => return Err(SessionError::Broken("the satellite hung up".into())),
            Some(Err(status)) => return Err(SessionError::Broken(status.message().to_owned())),
            Some(Ok(message)) => message.message,
        };
        let Session { id, node, .. } = &*self.session;
        match message {
            Some(Message::Report(report)) => self.reign.observed.report(node, *id, report)?,
            Some(Message::Answer(answer)) => {
                if !answer.refused.is_empty() {
                    tracing::error!(%node, revision = answer.revision, reason = answer.refused, "a satellite refused its orders");
                }
                // One is under way at a time. Refused, it is answered with the version that is held instead.
                self.unanswered = false;
                self.reign.observed.answer(node, *id, answer);
            }
            Some(Message::Inventory(inventory)) => self.reign.observed.inventory(node, *id, inventory)?,
            Some(Message::PoolProbed(probed)) => self.session.answered(probed),
            Some(Message::Hello(_)) => return Err(SessionError::NoHello),
            // A newer satellite may say more than this controller understands.
            None => {}
        }
        Ok(())
    }
}
