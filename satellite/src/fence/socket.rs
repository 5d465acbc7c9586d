//! Answers the fence-peer helper, from the ledger and the arbiter alone.
//!
//! It must never run a command on the resource, and never say "outdated" without a committed yes.

use std::{io, path::Path, sync::Arc, time::Duration};

use hawser_plan::{
    Question,
    desired::{Desired, Replica},
};
use hawser_proto::v1;
use tokio::{
    fs,
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    desk::Desk,
    question::{AskedAs, FenceAnswer, FenceQuestion, LONGEST_LINE},
};
use crate::{
    arbiter::{Answer, Arbiter, Case},
    keys::Keys,
    ledger::{Accepted, Ledger},
};

/// A helper asks at once, or is none.
const ASKING: Duration = Duration::from_secs(5);

/// Answers fence questions.
#[derive(Clone)]
pub struct FenceDoor {
    /// Hawser's name of this node.
    pub node: String,
    /// For the document.
    pub ledger: Ledger,
    /// Who decides.
    pub arbiter: Arc<dyn Arbiter>,
    /// Where the workers hear of it.
    pub desk: Desk,
    /// Draws request keys.
    pub keys: Keys,
}

impl FenceDoor {
    /// Opens the socket at `path`, in place of one that a predecessor left.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn listen(path: &Path) -> io::Result<UnixListener> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).await?;
        }
        match fs::remove_file(path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(path),
        }
    }

    /// Answers on `listener` until `cancelled`.
    pub async fn serve(self, listener: UnixListener, cancelled: CancellationToken) {
        let tracker = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = cancelled.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (door, cancelled) = (self.clone(), cancelled.clone());
                    tracker.spawn(async move {
                        tokio::select! {
                            // The helper finds its connection closed and asks the next satellite.
                            () = cancelled.cancelled() => {}
                            done = door.converse(stream) => {
                                if let Err(error) = done {
                                    tracing::warn!(%error, "a fence-peer helper went away");
                                }
                            }
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a fence-peer helper");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        timeout(ASKING, BufReader::new(reader.take(LONGEST_LINE)).read_line(&mut line)).await??;
        let question: FenceQuestion = serde_json::from_str(&line)?;
        let answer = self.answer(&question).await;
        tracing::info!(?question, outdated = answer.outdated, reason = answer.reason, "answered fence-peer");
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        writer.write_all(&line).await
    }

    /// The answer to `question`. On a Primary it may take as long as the controllers are away.
    pub async fn answer(&self, question: &FenceQuestion) -> FenceAnswer {
        let no = |reason: String| FenceAnswer { outdated: false, reason };
        let mut document = self.ledger.document();
        let Some(replica) = find(&document, &question.resource) else {
            return no("the desired document does not know this resource".to_owned());
        };
        let Some(peer) = peer_of(&replica, question.peer.as_deref()) else {
            return no(format!("the desired document does not know peer {:?}", question.peer));
        };
        let promotion = self.desk.promotion(&question.resource);
        if question.role == AskedAs::Secondary || (question.role == AskedAs::Unknown && promotion.is_some()) {
            return match promotion {
                Some(outdated) if outdated.contains(&peer) => FenceAnswer {
                    outdated: true,
                    reason: "the peer was outdated for this promotion".to_owned(),
                },
                Some(_) => no("the peer was not outdated for this promotion".to_owned()),
                None => no("this satellite promotes nothing now".to_owned()),
            };
        }
        let _waiting = self.desk.waits(&question.resource);
        let request_key = self.keys.draw();
        loop {
            let Some(replica) = find(&document, &question.resource) else {
                return no("the resource is not wanted here any more".to_owned());
            };
            if let Some(reason) = may_not_go_on(&self.node, &replica) {
                return no(reason);
            }
            let case = Case {
                resource: replica.resource.clone(),
                resource_incarnation: replica.resource_incarnation,
            };
            let generation = replica.generation;
            let outdate = Question::Outdate { peer: peer.clone(), generation };
            let may_still_ask = |replica: Replica| {
                replica.generation == generation
                    && replica.resource_incarnation == case.resource_incarnation
                    && may_not_go_on(&self.node, &replica).is_none()
            };
            tokio::select! {
                answer = self.arbiter.ask(&case, &outdate, &request_key) => match answer {
                    // Asked in this very freeze: the kernel need not wait for the document to say so too.
                    Answer::Yes(number) => {
                        self.desk.grant(&question.resource, generation, &peer, number);
                        return FenceAnswer { outdated: true, reason: "committed".to_owned() };
                    }
                    Answer::No(reason) => return no(reason),
                },
                // A granted question changes the document too, often before its answer is here: only what
                // takes away the right to ask may end the asking, or it would chase its own tail.
                () = until_changed(&mut document, |document| {
                    !find(document, &question.resource).is_some_and(|replica| may_still_ask(*replica))
                }) => {}
            }
        }
    }
}

/// Waits until the document `fits`. When the satellite ends it never returns: that is no answer, the helper
/// asks the next one.
async fn until_changed(
    document: &mut watch::Receiver<Option<Arc<Accepted>>>,
    fits: impl Fn(&watch::Receiver<Option<Arc<Accepted>>>) -> bool,
) {
    while document.changed().await.is_ok() {
        if fits(document) {
            return;
        }
    }
    std::future::pending().await
}

/// Why a Primary with this document may not even ask.
fn may_not_go_on(node: &str, replica: &Replica) -> Option<String> {
    if replica.owner != node {
        return Some(format!("{:?} owns the resource at generation {}", replica.owner, replica.generation));
    }
    (replica.outdated_number != 0).then(|| "this node's own replica is outdated".to_owned())
}

fn find(document: &watch::Receiver<Option<Arc<Accepted>>>, drbd_name: &str) -> Option<Box<Replica>> {
    let accepted = document.borrow().clone()?;
    let entry: &v1::DesiredReplica =
        accepted.document.replicas.iter().find(|replica| replica.drbd_name == drbd_name)?;
    match Desired::of_replica(&accepted.document, entry) {
        Ok(Desired::Replica(replica)) => Some(replica),
        Ok(Desired::Removal(_)) => None,
        Err(error) => {
            tracing::error!(%error, "a fence-peer question cannot be answered");
            None
        }
    }
}

/// Hawser's name of the peer: by its `uname -n`, or the only one that there is.
fn peer_of(replica: &Replica, uname: Option<&str>) -> Option<String> {
    let drbd = replica.drbd.as_ref()?;
    let mut others = drbd.peers.iter().filter(|peer| peer.node != drbd.node);
    match uname {
        Some(uname) => others.find(|peer| peer.uname == uname),
        None => others.next().filter(|_| others.next().is_none()),
    }
    .map(|peer| peer.node.clone())
}
