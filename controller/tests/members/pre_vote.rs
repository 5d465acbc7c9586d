//! A member that was cut off disturbs nobody, neither while it is away nor when it comes back.

use hawser_controller::consensus::Retention;

use crate::cluster::{leader, three_members};

/// Requests for votes that one attempt to stand sends: one to each other member.
const REQUESTS_OF_AN_ATTEMPT: u64 = 2;
/// Times that the member tries to stand: each is an election time-out that passed without a leader.
const ATTEMPTS: u64 = 8;

#[test]
fn a_member_that_was_cut_off_for_long_neither_raises_the_term_nor_deposes_the_leader() {
    let members = three_members(Retention::default());
    let leading = leader(&members);
    let away = &members[(leading + 1) % 3];
    let term = members[leading].consensus().status().term;
    let wire = &members[leading].wire;

    // Given a follower that nothing reaches and that reaches nobody, for many election time-outs.
    wire.cut(&away.name);
    let before = wire.sent(&away.name).refused;
    away.wait("attempts to stand that nobody hears", async {
        let wanted = before + ATTEMPTS * REQUESTS_OF_AN_ATTEMPT;
        wire.wait_for_sent(&away.name, |sent| sent.refused >= wanted).await;
    });
    assert_eq!(away.consensus().status().term, term, "the member that is away has raised its term");
    let revision = members[leading].create_node("while-away");

    // When the others hear it again, before it hears the leader: it asks them for their votes.
    let before = wire.sent(&away.name).passed;
    wire.heal_outward(&away.name);
    away.wait("attempts to stand that the others refuse", async {
        let wanted = before + ATTEMPTS / 2 * REQUESTS_OF_AN_ATTEMPT;
        wire.wait_for_sent(&away.name, |sent| sent.passed >= wanted).await;
    });
    // And then it hears them as well.
    wire.heal();
    away.wait_for_revision(revision);

    // Then the same member leads in the same term and takes the next write everywhere.
    let revision = members[leading].create_node("after");
    for member in &members {
        member.wait_for_revision(revision);
        let status = member.consensus().status();
        assert_eq!((status.term, status.leader), (term, Some(members[leading].consensus().member().raft_id)));
    }
}
