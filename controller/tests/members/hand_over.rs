//! The leadership changes hands because somebody wants it: nobody has to wait for an election.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hawser_controller::consensus::{Consensus, HandOverError, Retention, Timing};

use crate::cluster::{Member, create_node, leader, proposal, three_members};

/// Writes that a client has got acknowledged before and after.
const WRITES: u64 = 30;

#[test]
fn the_named_voter_leads_and_takes_the_next_write() {
    let members = three_members(Retention::default());
    for _ in 0..3 {
        let old = leader(&members);
        let successor = &members[(old + 1) % 3];
        let asked = members[old].consensus();

        let term = members[old]
            .wait("the hand-over", asked.transfer_leadership(&successor.consensus().member()))
            .unwrap();

        assert_eq!(successor.wait_to_lead(), term);
        successor.create_node(&format!("under-{term}"));
    }
    // Whoever leads has nothing to hand over.
    let leading = &members[leader(&members)];
    let own = leading.consensus().member();
    let term = leading.wait("an answer", leading.consensus().transfer_leadership(&own)).unwrap();
    assert_eq!(leading.consensus().status().term, term);
}

#[test]
fn a_leader_that_was_killed_does_not_lead_on_in_its_term() {
    let mut members = three_members(Retention::default());
    let old = leader(&members);
    let term = members[old].consensus().status().term;

    members[old].kill();
    members[old].start().unwrap();

    let next = leader(&members);
    assert!(members[next].consensus().status().term > term, "its log may lack what it had committed");
}

#[test]
fn the_leadership_stays_where_the_named_one_cannot_lead() {
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let mut learner = Member::new("n4");
    learner.wire = members[leading].wire.clone();
    let raft_id = members[leading].announce(&learner);
    learner.order_join(raft_id, &members[leading]);
    learner.start().unwrap();
    let revision = members[leading].create_node("web");
    learner.wait_for_revision(revision);
    let down = (leading + 1) % 3;
    let silent = members[down].consensus().member();
    members[down].kill();
    let term = members[leading].consensus().status().term;
    let asked = members[leading].consensus();
    let refused =
        |successor| members[leading].wait("a refusal", asked.transfer_leadership(successor)).unwrap_err();

    // Also right after its last answer.
    let refusal = refused(&silent);
    let HandOverError::Unfit(words) = &refusal else { panic!("{refusal:?}") };
    assert!(words.contains("does not answer; nothing was changed"), "{words}");
    let refusal = refused(&learner.consensus().member());
    let HandOverError::Unfit(words) = &refusal else { panic!("{refusal:?}") };
    assert!(words.contains("does not vote"), "{words}");
    assert!(members[leading].create_node("db") > revision);
    assert_eq!(members[leading].consensus().status().term, term);
    let follower = &members[(leading + 2) % 3];
    let own = follower.consensus().member();
    let refusal = follower.wait("a refusal", follower.consensus().transfer_leadership(&own));
    assert_eq!(refusal, Err(HandOverError::NotLeading));
}

#[test]
fn an_orderly_end_of_the_leader_costs_writers_no_election() {
    let mut members = three_members(Retention::default());
    let old = leader(&members);
    let everybody: Vec<Consensus> = members.iter().map(|member| member.consensus().clone()).collect();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));

    // Given a client that writes without a pause.
    let longest = thread::scope(|scope| {
        let writer = scope.spawn(|| longest_gap(&everybody, &acknowledged, &done));
        wait_for_writes(&acknowledged, WRITES);

        // When the leader is asked to end, as SIGTERM does.
        members[old].shut_down();

        wait_for_writes(&acknowledged, acknowledged.load(Ordering::SeqCst) + WRITES);
        done.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });

    // Then it was never without a leader for as long as an election takes that begins with silence.
    let timing = Timing::default();
    assert!(longest < timing.election_max + timing.election_min, "no write for {longest:?}");
    assert_ne!(leader(&members), old);
}

/// Writes to whoever leads until `done`; the longest time between two acknowledgements.
fn longest_gap(everybody: &[Consensus], acknowledged: &AtomicU64, done: &AtomicBool) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut number = 0;
    while !done.load(Ordering::SeqCst) {
        for consensus in everybody {
            number += 1;
            let write = consensus.propose(proposal(create_node(&format!("w{number}"))));
            if runtime.block_on(write).is_ok() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    longest
}

fn wait_for_writes(acknowledged: &AtomicU64, wanted: u64) {
    let began = Instant::now();
    while acknowledged.load(Ordering::SeqCst) < wanted {
        assert!(began.elapsed() < crate::cluster::PATIENCE, "writes stopped");
        thread::yield_now();
    }
}
