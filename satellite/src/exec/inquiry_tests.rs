//! How long an answer is worth something.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use hawser_plan::{
    desired::{Attachment, Peer},
    observed::{KernelPeer, ReplicaFound, Role, Suspended},
};
use hawser_proto::ids::{DocumentVersion, Incarnation, Lineage};
use tokio::sync::watch;

use super::*;
use crate::exec::fixture::configuration;

const NAME: &str = "db.5";
const GENERATION: OwnerGeneration = OwnerGeneration::new(3);

/// Nobody answers.
struct Silence;

#[async_trait]
impl Arbiter for Silence {
    async fn ask(&self, _: &Case, _: &Question, _: &str) -> Answer {
        std::future::pending().await
    }
}

/// Says yes as often as it is told to.
struct Prompted(Arc<tokio::sync::Semaphore>);

#[async_trait]
impl Arbiter for Prompted {
    async fn ask(&self, _: &Case, _: &Question, _: &str) -> Answer {
        self.0.acquire().await.unwrap().forget();
        Answer::Yes(OutdateNumber::new(50))
    }
}

fn inquiry() -> (Inquiry, Desk) {
    inquiry_to(Silence)
}

fn inquiry_to(arbiter: impl Arbiter) -> (Inquiry, Desk) {
    let desk = Desk::new(watch::Sender::new(0));
    (Inquiry::new(Arc::new(arbiter), desk.clone(), Keys::new(7)), desk)
}

/// n1 owns "db" at generation 3; the document has the given marks of n1 and n2, 0 for none.
fn wanted(own: u64, peer: u64) -> Desired {
    let [own, peer] = [own, peer].map(|number| (number != 0).then_some(OutdateNumber::new(number)));
    Desired::Replica(Box::new(Replica {
        lineage: Lineage::new(1),
        resource: "db".into(),
        resource_incarnation: Incarnation::new(5),
        incarnation: Incarnation::new(7),
        drbd: Some(configuration(NAME)),
        maximum_peers: 1,
        day0: None,
        not_made_anew: false,
        owner: "n1".into(),
        generation: GENERATION,
        attachment: Attachment::Attached,
        outdated_number: own,
        volumes: Vec::new(),
        peers: vec![Peer { node: "n2".into(), diskful: true, outdated_number: peer, kept_away: None }],
    }))
}

/// A look under `revision` that found n2 connected or not.
fn seen(revision: u64, connection: ConnectionState) -> Observation {
    let peer = KernelPeer {
        connection,
        connection_word: format!("{connection:?}"),
        role: Role::Secondary,
        volumes: BTreeMap::new(),
    };
    let kernel = KernelResource {
        role: Role::Primary,
        suspended: Suspended::default(),
        volumes: BTreeMap::new(),
        peers: [("n2".to_owned(), peer)].into(),
        to_a_stranger: false,
    };
    let found = ReplicaFound {
        backing: BTreeMap::new(),
        configuration: Looked::Absent,
        kernel: Looked::Present(kernel),
        gates: BTreeMap::new(),
        openers: Looked::Absent,
        opens_found: BTreeMap::new(),
        met: hawser_plan::observed::Met::Unknown,
    };
    Observation { version: DocumentVersion::new(1, revision), found }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_after_its_peer_was_met_under_its_number_is_void() {
    // Met under revision 44, the peer cannot have been said to be in sync after entry 45; under 45 it can.
    for (met_under, stands) in [(44, true), (45, false), (46, false)] {
        let (mut inquiry, desk) = inquiry();
        let desired = wanted(0, 45);
        inquiry.document_changed(&desired, true);

        inquiry.observed(&desired, &seen(met_under, ConnectionState::Connected));
        desk.grant(NAME, GENERATION, "n2", OutdateNumber::new(45));
        inquiry.observed(&desired, &seen(46, ConnectionState::Connecting));

        assert_eq!(inquiry.known().granted.contains_key("n2"), stands, "met under {met_under}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_the_document_has_no_more_is_asked_for_again() {
    let (mut inquiry, desk) = inquiry();
    let desired = wanted(0, 0);
    inquiry.document_changed(&desired, true);
    desk.grant(NAME, GENERATION, "n2", OutdateNumber::new(45));

    let look_again = inquiry.observed(&desired, &seen(44, ConnectionState::Connecting));
    assert!(inquiry.known().granted.contains_key("n2"), "the document is older than the answer");
    assert_eq!(look_again, Some(Instant::now() + UNHEARD), "and its successor may look the same");

    inquiry.observed(&desired, &seen(46, ConnectionState::Connecting));
    assert_eq!(inquiry.known().granted, BTreeMap::new(), "cleared meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_confirmed_for_a_moment_by_the_document_that_brings_it_or_by_an_answer() {
    let (mut inquiry, _) = inquiry();
    let desired = wanted(0, 0);
    let confirmed = |inquiry: &mut Inquiry| {
        inquiry.observed(&desired, &seen(44, ConnectionState::Connected));
        inquiry.known().confirmed
    };

    inquiry.document_changed(&desired, false);
    assert!(!confirmed(&mut inquiry), "from before the satellite started");
    inquiry.document_changed(&desired, true);
    assert!(!confirmed(&mut inquiry), "some other part of the document is new");

    let question = Question::ConfirmOwner { generation: GENERATION };
    let Desired::Replica(replica) = &desired else { unreachable!("it is no removal") };
    inquiry.ask(replica, std::slice::from_ref(&question));
    inquiry.note(question, Answer::Yes(OutdateNumber::default()));
    assert!(confirmed(&mut inquiry));
    tokio::time::advance(CONFIRMED).await;
    assert!(!confirmed(&mut inquiry), "a promotion that comes later asks again");

    inquiry.document_changed(
        &Desired::Replica(Box::new(Replica { generation: OwnerGeneration::new(4), ..*replica.clone() })),
        true,
    );
    assert!(confirmed(&mut inquiry), "granted a moment ago");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_said_of_itself_is_said_again_after_a_sync() {
    let (mut inquiry, desk) = inquiry();
    inquiry.document_changed(&wanted(0, 0), true);
    desk.grant(NAME, GENERATION, "n1", OutdateNumber::new(45));

    for (revision, own, stands) in [(44, 0, true), (45, 45, true), (60, 45, true), (61, 0, false)] {
        let desired = wanted(own, 0);
        inquiry.document_changed(&desired, true);
        inquiry.observed(&desired, &seen(revision, ConnectionState::Connected));
        assert_eq!(inquiry.known().granted.contains_key("n1"), stands, "{own} under {revision}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_reported_of_a_peer_is_remembered_and_at_the_start_supposed() {
    let (mut inquiry, _) = inquiry();
    let desired = wanted(0, 0);
    inquiry.document_changed(&desired, true);

    for (revision, connection, expected) in [
        (44, ConnectionState::Connecting, 44),
        (45, ConnectionState::Connecting, 44),
        (46, ConnectionState::Connected, 46),
        (45, ConnectionState::Connected, 46),
    ] {
        let seen = seen(revision, connection);
        inquiry.observed(&desired, &seen);
        inquiry.reported(&seen);
        assert_eq!(
            inquiry.known().reported["n2"],
            Revision::new(expected),
            "{connection:?} under {revision}"
        );
    }
}

/// Has `question` asked, and answers it if it was not left unasked.
async fn asked_and_granted(inquiry: &mut Inquiry, question: &Question, number: u64) -> bool {
    let desired = wanted(0, 0);
    let Desired::Replica(replica) = &desired else { unreachable!("it is no removal") };
    inquiry.ask(replica, std::slice::from_ref(question));
    let asked = inquiry.asking.contains_key(question);
    if asked {
        inquiry.note(question.clone(), Answer::Yes(OutdateNumber::new(number)));
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_is_not_asked_again_before_its_document_is_here() {
    let (mut inquiry, _) = inquiry();
    let desired = wanted(0, 0);
    let question = Question::Outdate { peer: "n2".to_owned(), generation: GENERATION };
    inquiry.document_changed(&desired, true);
    assert!(asked_and_granted(&mut inquiry, &question, 45).await);

    // A peer that is connected has every yes against it given up, so the plan wants to ask at each look.
    inquiry.observed(&desired, &seen(44, ConnectionState::Connected));
    assert!(!asked_and_granted(&mut inquiry, &question, 46).await, "the document of entry 45 is on its way");

    tokio::time::advance(STANDS).await;
    inquiry.observed(&desired, &seen(44, ConnectionState::Connected));
    assert!(asked_and_granted(&mut inquiry, &question, 47).await, "it takes too long");

    inquiry.observed(&desired, &seen(47, ConnectionState::Connected));
    assert!(
        asked_and_granted(&mut inquiry, &question, 48).await,
        "the document is here and did not settle it"
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_refusal_is_no_reason_to_look_again_and_again() {
    let (mut inquiry, _) = inquiry();
    let desired = wanted(0, 0);
    let question = Question::Outdate { peer: "n2".to_owned(), generation: GENERATION };
    inquiry.document_changed(&desired, true);
    let Desired::Replica(replica) = &desired else { unreachable!("it is no removal") };
    inquiry.ask(replica, std::slice::from_ref(&question));
    inquiry.note(question, Answer::No("taken over".to_owned()));

    let mut unseen = seen(44, ConnectionState::Connected);
    unseen.found.kernel = Looked::Unknown("events2 failed".to_owned());
    assert_eq!(inquiry.observed(&desired, &unseen), Some(Instant::now() + STANDS));
    tokio::time::advance(STANDS).await;

    assert_eq!(inquiry.observed(&desired, &unseen), None);
    assert!(inquiry.known().refused.is_empty());
}

fn confirm(inquiry: &mut Inquiry, replica: &Replica) {
    let question = Question::ConfirmOwner { generation: GENERATION };
    inquiry.ask(replica, std::slice::from_ref(&question));
    inquiry.note(question, Answer::Yes(OutdateNumber::new(0)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_shut_out_from_a_controllers_word_on_until_the_answer() {
    let (mut inquiry, _) = inquiry();
    let desired = wanted(0, 0);
    let Desired::Replica(replica) = &desired else { unreachable!("it is no removal") };
    let question = Question::Outdate { peer: "n2".to_owned(), generation: GENERATION };
    let is_shut_out = |inquiry: &mut Inquiry, observation: &Observation| {
        inquiry.observed(&desired, observation);
        inquiry.known().shut_out.contains("n2")
    };
    let (away, connected) = (seen(44, ConnectionState::Connecting), seen(44, ConnectionState::Connected));
    let mut failed = seen(44, ConnectionState::Connecting);
    failed.found.kernel = Looked::Unknown("events2 failed".to_owned());
    inquiry.document_changed(&desired, true);
    assert!(!is_shut_out(&mut inquiry, &away), "it may still come");
    tokio::time::advance(OVERDUE).await;
    assert!(!is_shut_out(&mut inquiry, &away), "the document is too old for that by now");

    confirm(&mut inquiry, replica);
    assert!(is_shut_out(&mut inquiry, &away));
    tokio::time::advance(SHUT_OUT / 2).await;
    assert!(is_shut_out(&mut inquiry, &away), "a busy node needs its time");
    assert!(!is_shut_out(&mut inquiry, &connected), "it was here before");

    tokio::time::advance(OVERDUE).await;
    is_shut_out(&mut inquiry, &away);
    tokio::time::advance(OVERDUE).await;
    confirm(&mut inquiry, replica);
    let look_again = inquiry.observed(&desired, &away);
    assert!(look_again.is_some_and(|at| at <= Instant::now() + SHUT_OUT), "{look_again:?}");
    tokio::time::advance(SHUT_OUT).await;
    assert!(!is_shut_out(&mut inquiry, &away), "nothing was asked");

    confirm(&mut inquiry, replica);
    assert!(is_shut_out(&mut inquiry, &away));
    inquiry.ask(replica, std::slice::from_ref(&question));
    tokio::time::advance(SHUT_OUT * 10).await;
    assert!(is_shut_out(&mut inquiry, &away), "the question may be committed at any time");
    assert!(is_shut_out(&mut inquiry, &failed), "nothing is known to have changed");
    inquiry.note(question, Answer::No("n2 owns it".to_owned()));
    assert!(!is_shut_out(&mut inquiry, &away));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_and_one_to_a_withdrawn_question_is_not() {
    let prompts = Arc::new(tokio::sync::Semaphore::new(0));
    let (mut inquiry, _desk) = inquiry_to(Prompted(Arc::clone(&prompts)));
    let question = Question::Outdate { peer: "n2".into(), generation: GENERATION };
    let desired = wanted(0, 0);
    let Desired::Replica(replica) = &desired else { unreachable!("it is no removal") };
    let is_answered = async |inquiry: &mut Inquiry| {
        tokio::time::timeout(Duration::from_secs(60), inquiry.answered()).await.is_ok()
    };
    assert!(!is_answered(&mut inquiry).await, "nothing was asked");

    inquiry.ask(replica, std::slice::from_ref(&question));
    tokio::task::yield_now().await;
    inquiry.ask(replica, &[]);
    prompts.add_permits(1);
    assert!(!is_answered(&mut inquiry).await, "it was withdrawn");
    assert_eq!(prompts.available_permits(), 1, "whoever was asked in vain goes on waiting");

    inquiry.ask(replica, std::slice::from_ref(&question));
    assert!(is_answered(&mut inquiry).await);
    assert_eq!(inquiry.known().granted.get("n2"), Some(&OutdateNumber::new(50)));
}
