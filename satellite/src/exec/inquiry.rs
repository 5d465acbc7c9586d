//! One worker's questions to the arbiter, and what came back.
//!
//! It must never keep an answer longer than it is worth: a grant ends when the peer is met again or the
//! generation changes, a refusal with the next document. An answer may come late, after its peer was met and has
//! synced: a grant that is not newer than the last meeting is void from the start.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use hawser_plan::{
    Question,
    desired::{Desired, Replica},
    observed::{ConnectionState, KernelResource, Looked},
    situation::Arbitration,
};
use hawser_proto::ids::{OutdateNumber, OwnerGeneration, Revision};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    arbiter::{Answer, Arbiter, Case},
    fence::desk::Desk,
    keys::Keys,
    observe::Observation,
};

/// A peer that has not connected within this time is asked about, if nothing else speaks against it. Longer
/// than DRBD takes to connect two nodes that are both up.
const OVERDUE: Duration = Duration::from_secs(6);
/// A committed answer is not questioned again before this time, unless the document changes.
const STANDS: Duration = Duration::from_secs(10);
/// Between two looks whether the document has come that has a grant's `Outdate`. It wakes its worker; only one
/// in which that entry is cleared already may look to the worker as if nothing had changed.
const UNHEARD: Duration = Duration::from_secs(1);
/// For this long a controller's word that a generation stands is good for a promotion, and for beginning to shut a peer
/// out: what keeps it waiting for longer gives another node the time to take over.
const CONFIRMED: Duration = Duration::from_secs(5);
/// For this long a peer stays shut out although nothing was asked yet: time for a busy node to take its end down and to
/// look again.
const SHUT_OUT: Duration = Duration::from_secs(30);

/// The questions of one worker.
pub(super) struct Inquiry {
    arbiter: Arc<dyn Arbiter>,
    desk: Desk,
    keys: Keys,
    known: Arbitration,
    /// Owner and generation that the answers are about.
    about: (String, OwnerGeneration),
    confirmed_at: Option<Instant>,
    refused_at: BTreeMap<Question, Instant>,
    /// By question that was granted: the log entry that it is, and when the answer came.
    granted_at: BTreeMap<Question, (OutdateNumber, Instant)>,
    /// The latest revision under which a peer was seen connected. Nobody has taken an `Outdate` of a later number
    /// back: the leader does so only after a report under its number that shows both nodes connected.
    met: BTreeMap<String, Revision>,
    unconnected: BTreeMap<String, Instant>,
    /// When a controller's word last was good for shutting a peer out.
    shut_out_at: BTreeMap<String, Instant>,
    asking: BTreeMap<Question, AbortHandle>,
    answers: JoinSet<(Question, Answer)>,
}

impl Inquiry {
    pub(super) fn new(arbiter: Arc<dyn Arbiter>, desk: Desk, keys: Keys) -> Self {
        Self {
            arbiter,
            desk,
            keys,
            known: Arbitration::default(),
            about: (String::new(), OwnerGeneration::default()),
            confirmed_at: None,
            refused_at: BTreeMap::new(),
            granted_at: BTreeMap::new(),
            met: BTreeMap::new(),
            unconnected: BTreeMap::new(),
            shut_out_at: BTreeMap::new(),
            asking: BTreeMap::new(),
            answers: JoinSet::new(),
        }
    }

    /// Takes note of what is about to be reported.
    pub(super) fn reported(&mut self, observation: &Observation) {
        let Looked::Present(kernel) = &observation.found.kernel else { return };
        let met = kernel.peers.iter().filter(|(_, found)| found.connection == ConnectionState::Connected);
        for (peer, _) in met {
            let noted = self.known.reported.entry(peer.clone()).or_default();
            *noted = observation.version.revision.max(*noted);
        }
    }

    /// What is known now.
    pub(super) fn known(&self) -> &Arbitration {
        &self.known
    }

    /// Takes note of a changed document: answers about another owner or generation are void. One that came from a
    /// controller in this run and brings a generation also confirms it; a later one does not confirm it again,
    /// for a promotion may be long past, and its generation with it.
    pub(super) fn document_changed(&mut self, desired: &Desired, fresh: bool) {
        let about = match desired {
            Desired::Replica(replica) => (replica.owner.clone(), replica.generation),
            Desired::Removal(_) => (String::new(), OwnerGeneration::default()),
        };
        if about != self.about {
            self.about = about;
            // Of its own copy it was no owner who was answered.
            let own = desired.replica().and_then(|replica| replica.drbd.as_ref()).map(|drbd| &drbd.node);
            self.known.granted.retain(|node, _| Some(node) == own);
            self.confirmed_at = fresh.then(Instant::now);
            self.shut_out_at.clear();
        }
        self.known.refused.clear();
        self.refused_at.clear();
    }

    /// Takes note of what was found. Returns when to look again although nothing changes.
    pub(super) fn observed(&mut self, desired: &Desired, observation: &Observation) -> Option<Instant> {
        let Desired::Replica(replica) = desired else { return None };
        let drbd_name = desired.drbd_name()?;
        let (now, revision) = (Instant::now(), observation.version.revision);
        for (peer, number) in self.desk.take_grants(drbd_name, replica.generation) {
            self.granted(peer, number);
        }
        self.known.confirmed = self.confirmed_at.is_some_and(|at| now < at + CONFIRMED);
        self.forget_what_no_longer_stands(revision, now);
        let left_to_helper = self.desk.left_to_helper_until(drbd_name);
        self.known.helper_asks = left_to_helper.is_some();
        match &observation.found.kernel {
            Looked::Present(kernel) => self.meet_peers(replica, kernel, revision, now),
            Looked::Absent => {
                self.unconnected.clear();
                self.known.overdue.clear();
            }
            // What was seen before is the best that is known: a peer must not be let in for a look that failed.
            Looked::Unknown(_) => {}
        }
        self.shut_out(now);
        let own = replica.drbd.as_ref().map(|drbd| drbd.node.as_str());
        let is_apart =
            replica.peers.iter().any(|peer| peer.diskful && self.unconnected.contains_key(&peer.node));
        self.known.synced &= !is_apart && replica.outdated_number.is_none();
        self.known.granted.retain(|node, number| {
            let cleared = revision >= number.revision() && outdated_number(replica, node) < Some(*number);
            self.known.synced |= cleared && !is_apart && Some(node.as_str()) == own;
            !cleared && self.met.get(node).is_none_or(|met| *met < number.revision())
        });
        let unheard = self.known.granted.values().any(|number| number.revision() > revision);
        let overdue = self.unconnected.values().map(|since| *since + OVERDUE).filter(|at| *at > now);
        let stale = self.refused_at.values().map(|at| *at + STANDS);
        let let_in = self.shut_out_at.values().map(|at| *at + SHUT_OUT).filter(|at| *at > now);
        overdue.chain(stale).chain(let_in).chain(left_to_helper).chain(unheard.then(|| now + UNHEARD)).min()
    }

    /// Whom an owner keeps from coming, because it is about to ask whether it may go on without that peer: from a
    /// controller's word on, for as long as it takes to ask, and then until the answer. A question that is under way may
    /// be answered with yes at any time.
    fn shut_out(&mut self, now: Instant) {
        if self.known.confirmed {
            self.shut_out_at.extend(self.known.overdue.iter().map(|peer| (peer.clone(), now)));
        }
        let known = &self.known;
        let asks = |peer: &String| {
            let is_about = |question: &Question| matches!(question, Question::Outdate { peer: about, .. } if about == peer);
            known.granted.contains_key(peer) || self.asking.keys().any(is_about)
        };
        self.shut_out_at.retain(|peer, at| {
            let is_away = self.unconnected.contains_key(peer) && !known.refused.contains_key(peer);
            is_away && (asks(peer) || now < *at + SHUT_OUT)
        });
        self.known.shut_out = self.shut_out_at.keys().cloned().collect();
    }

    /// This replica has just fallen behind: what was said of its copy before proves nothing any more.
    pub(super) fn fell_behind(&mut self, desired: &Desired) {
        self.known.synced = false;
        if let Some(drbd) = desired.replica().and_then(|replica| replica.drbd.as_ref()) {
            self.known.granted.remove(&drbd.node);
        }
    }

    fn granted(&mut self, node: String, number: OutdateNumber) {
        let noted = self.known.granted.entry(node).or_default();
        *noted = number.max(*noted);
    }

    fn meet_peers(&mut self, replica: &Replica, kernel: &KernelResource, revision: Revision, now: Instant) {
        self.unconnected.retain(|node, _| replica.peers.iter().any(|peer| peer.node == *node));
        for peer in &replica.peers {
            // What the satellite before this one has reported is not known.
            self.known.reported.entry(peer.node.clone()).or_insert(revision);
            let found = kernel.peers.get(&peer.node);
            if found.is_some_and(|found| found.connection == ConnectionState::Connected) {
                self.unconnected.remove(&peer.node);
                self.known.granted.remove(&peer.node);
                self.met.insert(peer.node.clone(), revision);
            } else {
                self.unconnected.entry(peer.node.clone()).or_insert(now);
            }
        }
        self.known.overdue = self
            .unconnected
            .iter()
            .filter(|(_, since)| now >= **since + OVERDUE)
            .map(|(peer, _)| peer.clone())
            .collect();
    }

    /// After a while a refusal is questioned again, and so is a grant that no document has brought.
    fn forget_what_no_longer_stands(&mut self, revision: Revision, now: Instant) {
        self.granted_at.retain(|_, (number, at)| number.revision() > revision && now < *at + STANDS);
        for (question, _) in self.refused_at.extract_if(.., |_, at| now >= *at + STANDS) {
            if let Question::Outdate { peer, .. } = question {
                self.known.refused.remove(&peer);
            }
        }
    }

    /// Goes on asking what is in `questions`, and stops asking anything else.
    pub(super) fn ask(&mut self, replica: &Replica, questions: &[Question]) {
        self.asking.retain(|question, asking| {
            let wanted = questions.contains(question);
            if !wanted {
                asking.abort();
            }
            wanted
        });
        for question in questions {
            // What was granted changes the document: until that is here, each further yes would only be one more
            // log entry.
            let answered = self.refused_at.contains_key(question) || self.granted_at.contains_key(question);
            if answered || self.asking.contains_key(question) {
                continue;
            }
            tracing::info!(resource = replica.resource, ?question, "asks the arbiter");
            let case = Case {
                lineage: replica.lineage,
                resource: replica.resource.clone(),
                resource_incarnation: replica.resource_incarnation,
            };
            let (arbiter, asked) = (Arc::clone(&self.arbiter), question.clone());
            let request_key = self.keys.draw();
            let asking = self.answers.spawn(async move {
                let answer = arbiter.ask(&case, &asked, &request_key).await;
                (asked, answer)
            });
            self.asking.insert(question.clone(), asking);
        }
    }

    /// Waits for an answer and takes note of it. Cancel-safe.
    pub(super) async fn answered(&mut self) {
        loop {
            match self.answers.join_next().await {
                Some(Ok((question, answer))) => return self.note(question, answer),
                Some(Err(ended)) if ended.is_panic() => {
                    tracing::error!(%ended, "a question to the arbiter ended in a fault of this program; it is asked again");
                    self.asking.retain(|_, asking| asking.id() != ended.id());
                    return;
                }
                // It was withdrawn.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }

    fn note(&mut self, question: Question, answer: Answer) {
        // An answer to a question that was withdrawn is about another document or another meeting.
        if self.asking.remove(&question).is_none() {
            return;
        }
        tracing::info!(?question, ?answer, "the arbiter has answered");
        match (&question, answer) {
            (Question::Outdate { peer, .. }, Answer::Yes(number)) => {
                self.granted(peer.clone(), number);
                self.granted_at.insert(question, (number, Instant::now()));
            }
            (Question::ConfirmOwner { .. }, Answer::Yes(_)) => self.confirmed_at = Some(Instant::now()),
            (Question::Outdate { peer, .. }, Answer::No(reason)) => {
                self.known.refused.insert(peer.clone(), reason);
                self.refused_at.insert(question, Instant::now());
            }
            (Question::ConfirmOwner { .. }, Answer::No(_)) => {
                self.refused_at.insert(question, Instant::now());
            }
        }
    }
}

/// Of the `Outdate` that stands in the document for `node`, a peer or this very one.
fn outdated_number(replica: &Replica, node: &str) -> Option<OutdateNumber> {
    let peer = replica.peers.iter().find(|peer| peer.node == node);
    peer.map_or(replica.outdated_number, |peer| peer.outdated_number)
}

#[cfg(test)]
#[path = "inquiry_tests.rs"]
mod tests;
