//! Answers the fence-peer helper, from the ledger and the arbiter alone.
//!
//! It must never run a command on the resource, and never say "outdated" without a committed yes.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use hawser_plan::{
    Question,
    desired::{Desired, Replica},
};
use hawser_process::beside::beside;
use hawser_proto::v1;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{Semaphore, watch},
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

/// Helpers that are answered at once: more than resources freeze on one node when its network is lost. One that finds
/// no room asks again soon.
const CONVERSATIONS: usize = 2048;

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
        let place = path.to_owned();
        beside(move || {
            if let Some(directory) = place.parent() {
                fs::create_dir_all(directory)?;
            }
            match fs::remove_file(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await?;
        UnixListener::bind(path)
    }

    /// Answers on `listener` until `cancelled`.
    pub async fn serve(self, listener: UnixListener, cancelled: CancellationToken) {
        self.serve_at_once(CONVERSATIONS, listener, cancelled).await;
    }

    async fn serve_at_once(self, most: usize, listener: UnixListener, cancelled: CancellationToken) {
        let tracker = TaskTracker::new();
        let room = Arc::new(Semaphore::new(most));
        loop {
            let accepted = tokio::select! {
                () = cancelled.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(admitted) = Arc::clone(&room).try_acquire_owned() else {
                        tracing::warn!(most, "no room for another fence-peer helper");
                        continue;
                    };
                    let (door, cancelled) = (self.clone(), cancelled.clone());
                    tracker.spawn(async move {
                        let _admitted = admitted;
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
        let mut reader = BufReader::new(reader.take(LONGEST_LINE));
        timeout(ASKING, reader.read_line(&mut line)).await??;
        let question: FenceQuestion = serde_json::from_str(&line)?;
        let answer = tokio::select! {
            answer = self.answer(&question) => answer,
            // The freeze is then left to the resource's worker.
            () = hung_up(reader.into_inner().into_inner()) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was gone before its answer"));
            }
        };
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
                lineage: replica.lineage,
                resource: replica.resource.clone(),
                resource_incarnation: replica.resource_incarnation,
            };
            let generation = replica.generation;
            let outdate = Question::Outdate { peer: peer.clone(), generation };
            let may_still_ask = |replica: Replica| {
                replica.generation == generation
                    && replica.lineage == case.lineage
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

/// Resolves when the other side has closed its connection. What it says before is not listened to.
async fn hung_up(mut reader: OwnedReadHalf) {
    let mut ignored = [0; 64];
    while matches!(reader.read(&mut ignored).await, Ok(1..)) {}
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
    replica.outdated_number.is_some().then(|| "this node's own replica is outdated".to_owned())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use async_trait::async_trait;
    use prost::Message;

    use super::*;

    /// Controllers that are away.
    struct Away;

    #[async_trait]
    impl Arbiter for Away {
        async fn ask(&self, _: &Case, _: &Question, _: &str) -> Answer {
            std::future::pending().await
        }
    }

    fn document() -> v1::DesiredDocument {
        let peer = |node: &str, node_id| v1::DesiredPeer {
            node: node.into(),
            uname: node.into(),
            node_id,
            ip: "10.77.0.1".into(),
            port: 7000,
            kind: v1::ReplicaKind::Diskful.into(),
            ..Default::default()
        };
        let thin = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: "thin".into() };
        v1::DesiredDocument {
            cluster_id: "c1".into(),
            node: "n1".into(),
            lineage: 1,
            revision: 8,
            pools: vec![v1::DesiredPool {
                name: "fast".into(),
                incarnation: 2,
                provider: Some(v1::desired_pool::Provider::LvmThin(thin)),
            }],
            replicas: vec![v1::DesiredReplica {
                resource: "db".into(),
                drbd_name: "db.5".into(),
                layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
                drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
                attachment: v1::DesiredAttachment::Attached.into(),
                pool: "fast".into(),
                owner: "n1".into(),
                generation: 3,
                peers: vec![peer("n1", 0), peer("n2", 1)],
                volumes: vec![v1::DesiredVolume { minor: 1000, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    struct Place {
        directory: tempfile::TempDir,
        desk: Desk,
        news: watch::Receiver<u64>,
        _cancel: tokio_util::sync::DropGuard,
    }

    /// A door with room for `most` helpers, on n1, which owns "db.5".
    async fn open(most: usize) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger"), "c1", "n1", "boot-1").unwrap();
        ledger.accept(document().encode_to_vec()).await.unwrap();
        let sender = watch::Sender::new(0);
        let news = sender.subscribe();
        let desk = Desk::new(sender);
        let door = FenceDoor {
            node: "n1".into(),
            ledger,
            arbiter: Arc::new(Away),
            desk: desk.clone(),
            keys: Keys::new(7),
        };
        let listener = FenceDoor::listen(&directory.path().join("socket")).await.unwrap();
        let cancelled = CancellationToken::new();
        tokio::spawn(door.serve_at_once(most, listener, cancelled.clone()));
        Place { directory, desk, news, _cancel: cancelled.drop_guard() }
    }

    impl Place {
        async fn dial(&self) -> UnixStream {
            UnixStream::connect(self.directory.path().join("socket")).await.unwrap()
        }

        async fn ask(&self, line: &str) -> UnixStream {
            let mut stream = self.dial().await;
            stream.write_all(line.as_bytes()).await.unwrap();
            stream
        }
    }

    const QUESTION: &str = "{\"resource\":\"db.5\",\"peer\":\"n2\",\"role\":\"primary\"}\n";

    async fn is_closed(stream: &mut UnixStream) -> bool {
        !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
    }

    #[tokio::test]
    async fn a_freeze_is_left_to_a_helper_only_as_long_as_that_is_there() {
        let mut place = open(8).await;
        let helper = place.ask(QUESTION).await;
        place.news.changed().await.unwrap();
        assert!(place.desk.left_to_helper_until("db.5").is_some());

        drop(helper);
        place.news.changed().await.unwrap();

        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(place.desk.left_to_helper_until("db.5"), None, "the worker asks by itself");
    }

    #[tokio::test]
    async fn a_crowd_of_helpers_is_turned_away_and_room_comes_back() {
        let mut place = open(2).await;
        let held = [place.ask(QUESTION).await, place.ask(QUESTION).await];
        place.news.wait_for(|news| *news == 2).await.unwrap();

        assert!(is_closed(&mut place.ask(QUESTION).await).await);

        drop(held);
        place.news.wait_for(|news| *news == 4).await.unwrap();
        let _served = place.ask(QUESTION).await;
        place.news.wait_for(|news| *news == 5).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_nonsense_is_cut_off() {
        let place = open(8).await;
        let began = tokio::time::Instant::now();
        assert!(is_closed(&mut place.dial().await).await, "it said nothing");
        assert!(began.elapsed() <= ASKING * 2);
        let long = "x".repeat(10_000);
        for nonsense in ["\n", "{}\n", "\u{1}\u{2}\n", long.as_str()] {
            assert!(is_closed(&mut place.ask(nonsense).await).await, "{nonsense:?}");
        }
    }
}
