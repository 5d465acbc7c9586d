//! Whether an attachment that is asked for is a plain grant, a take-over, or has to be refused.
//!
//! Safety does not rest here: Raft's arbitration and DRBD's freeze hold whatever is decided. This keeps a request
//! from taking a healthy resource away from the node that uses it, so doubt means waiting, never taking.

use std::time::Duration;

use hawser_proto::{
    ids::{ClaimNumber, OwnerGeneration},
    v1,
};
use hawser_state::State;
use tokio::time::Instant;

use super::{
    conditions::disk_word,
    loops::evidence::{connected, disk, is_diskful, keeps_away, outdated, owner},
    observed::{Observed, Sight},
};

/// For this long after a reign began, a node without a session may be on its way back.
pub const GRACE: Duration = Duration::from_millis(2_500);

/// What is to be done with a request for an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nobody else holds it.
    Grant,
    /// The holder cannot be writing to both copies any more; the node is to keep it away first.
    Claim {
        /// The holder's generation.
        generation: OwnerGeneration,
    },
    /// The node has claimed it and keeps the holder away.
    TakeOver {
        /// Who holds it.
        from: String,
        /// Its generation.
        generation: OwnerGeneration,
        /// The claim under which the holder is kept away.
        claim: ClaimNumber,
    },
    /// Not decided by what is known so far; more may come within a moment.
    Undecided(String),
    /// No, and why.
    Refused(String),
}

/// When things happened, on the leader's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// The reign began.
    pub began: Instant,
    /// The request arrived.
    pub asked: Instant,
    /// Now.
    pub now: Instant,
}

/// Decides on `node`'s request for `resource`.
#[must_use]
pub fn decide(
    state: &State,
    observed: &Observed,
    resource: &v1::Resource,
    node: &str,
    moments: Moments,
) -> Decision {
    let name = &resource.name;
    let Some(holder) = owner(resource).filter(|holder| *holder != node) else { return Decision::Grant };
    let held_replica = resource.replicas.iter().find(|replica| replica.node == holder);
    let own_replica = resource.replicas.iter().find(|replica| replica.node == node);
    // What cannot work at all is for the state to refuse, in its words.
    let can_take = |replica: &&v1::Replica| is_diskful(replica) && !replica.is_going();
    let (Some(held), Some(own)) = (held_replica, own_replica.filter(can_take)) else {
        return Decision::Grant;
    };
    if let Some(mark) = outdated(resource, node) {
        return Decision::Refused(format!(
            "the replica of {name} on node {node} is behind since revision {}: node {holder} went on without it; attach it \
             on node {holder}, or wait until it has synced",
            mark.number()
        ));
    }
    let healthy = healthy_message(state, name, holder, node);

    let own_report = observed.replica(node, name, own.incarnation()).known();
    let own_sees_holder = own_report.is_some_and(|report| connected(report, holder).is_some());
    let holder_sight = observed.replica(holder, name, held.incarnation());
    let holder_seen = observed.node(holder).filter(|seen| seen.online);

    let Some(holder_seen) = holder_seen else {
        if own_sees_holder {
            return Decision::Undecided(format!(
                "the satellite of node {holder} is not connected to the controllers, but its DRBD is connected to node \
                 {node}: {healthy}"
            ));
        }
        if moments.now.duration_since(moments.began) < GRACE {
            return Decision::Undecided(format!(
                "the leader is new and node {holder}, which holds {name}, may still report"
            ));
        }
        return take_over(resource, holder, node, own_report);
    };
    let Sight::Known(report) = holder_sight else {
        return Decision::Undecided(format!("node {holder}, which holds {name}, has not yet reported it"));
    };
    if !report.suspended.is_empty() || connected(report, node).is_none() {
        if own_sees_holder {
            return Decision::Undecided(healthy);
        }
        return take_over(resource, holder, node, own_report);
    }
    // A power cut sends no goodbye: only a holder that spoke after the request is surely alive.
    if holder_seen.heard_at > moments.asked {
        Decision::Refused(healthy)
    } else {
        Decision::Undecided(healthy)
    }
}

/// Taking over needs somebody there to take it, with data that can be used: what is committed to a node without
/// it keeps both copies waiting. It has two steps: the node claims the resource, and has to be seen keeping the holder
/// away before it gets it.
fn take_over(
    resource: &v1::Resource,
    holder: &str,
    node: &str,
    own: Option<&v1::ReplicaObserved>,
) -> Decision {
    let name = &resource.name;
    let Some(own) = own else {
        return Decision::Undecided(format!(
            "node {node} is not connected to the controllers or has not reported its replica of {name}, so it cannot \
             take it over"
        ));
    };
    let disks = resource.volumes.iter().map(|volume| (volume.number, disk(own, volume.number)));
    let mut unusable =
        disks.filter(|(_, disk)| !matches!(disk, v1::DiskState::UpToDate | v1::DiskState::Consistent));
    if let Some((volume, disk)) = unusable.next() {
        return Decision::Undecided(format!(
            "volume {volume} of {name} on node {node} is {}, so node {node} has no data to take over with; bring node \
             {holder} back, or wait until the replica on node {node} is UpToDate: `hawser resource show {name}`",
            disk_word(disk)
        ));
    }
    let arbitration = resource.arbitration.as_ref();
    let generation = arbitration.map(v1::Arbitration::generation).unwrap_or_default();
    match arbitration.and_then(|arbitration| arbitration.claim.as_ref()) {
        None => Decision::Claim { generation },
        Some(claim) if claim.node != node => Decision::Undecided(format!(
            "node {} is about to take {name} over: attach it there, or ask again in a moment",
            claim.node
        )),
        Some(claim) if own.revision() >= claim.number().revision() && keeps_away(own, holder) => {
            Decision::TakeOver { from: holder.to_owned(), generation, claim: claim.number() }
        }
        Some(_) => Decision::Undecided(format!(
            "node {node} has not said yet that it keeps node {holder} away from its replica of {name}"
        )),
    }
}

fn healthy_message(state: &State, name: &str, holder: &str, node: &str) -> String {
    let detaching = state
        .attachment(name, holder)
        .is_some_and(|attachment| attachment.lifecycle() == v1::AttachmentLifecycle::Detaching);
    if detaching {
        format!("{name} is still being detached from node {holder}; try again when that has ended")
    } else {
        format!(
            "{name} is attached on node {holder}, which is connected to node {node}; detach it there first: `hawser \
             attachment delete {name} {holder}`"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::leader::loops::table::World;

    const LATER: Duration = Duration::from_secs(10);

    fn decision(world: &World, asked_at: Duration) -> Decision {
        let began = world.made;
        let moments = Moments { began, asked: began + asked_at, now: began + asked_at };
        decide(&world.state(), &world.observed(), &world.resource, "n2", moments)
    }

    fn claimed() -> Decision {
        Decision::Claim { generation: OwnerGeneration::new(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_holds_it() {
        let mut world = World::attaching();
        world.resource.arbitration = Some(Default::default());
        assert_eq!(decision(&world, LATER), Decision::Grant);
        world.resource.arbitration = Some(v1::Arbitration { owner: "n2".into(), ..Default::default() });
        assert_eq!(decision(&world, LATER), Decision::Grant, "itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_holder_keeps_it() {
        let mut world = World::attaching();
        let Decision::Undecided(why) = decision(&world, LATER) else { panic!("the holder may have died") };
        assert!(why.contains("detach it there first"), "{why}");
        world.seen("n1").heard_at = world.made + LATER + Duration::from_millis(1);
        let Decision::Refused(why) = decision(&world, LATER) else { panic!("the holder has spoken since") };
        assert!(why.contains("hawser attachment delete data n1"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_write_to_both_copies_loses_it() {
        type Change = fn(&mut World);
        let cut_off: Change = |world| world.report("n2").peers[0].connection = "Connecting".into();
        let table: [(&str, Change); 3] = [
            ("it has no session", |world| world.go_offline("n1")),
            ("it is frozen", |world| world.report("n1").suspended = "fencing".into()),
            ("it is not connected", |world| {
                world.report("n1").peers[0].connection = "NetworkFailure".into();
            }),
        ];
        for (what, change) in table {
            let mut world = World::attaching();
            change(&mut world);
            assert!(
                matches!(decision(&world, LATER), Decision::Undecided(_)),
                "{what}, but n2 is connected to it"
            );
            cut_off(&mut world);
            assert_eq!(decision(&world, LATER), claimed(), "{what}");
            world.go_offline("n2");
            assert!(matches!(decision(&world, LATER), Decision::Undecided(_)), "{what}, nobody takes it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_waits_for_the_holder() {
        let mut world = World::attaching();
        world.go_offline("n1");
        world.report("n2").peers[0].connection = "Connecting".into();
        assert!(matches!(decision(&world, Duration::from_secs(1)), Decision::Undecided(_)));
        assert_eq!(decision(&world, GRACE), claimed());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_takes_over_without_usable_data() {
        use v1::DiskState as D;
        let table = [
            (D::UpToDate, None),
            // After a reboot alone: the take-over is what tells DRBD that it may count.
            (D::Consistent, None),
            (D::Unspecified, Some("not there yet")),
            (D::Diskless, Some("Diskless")),
            (D::Failed, Some("Failed")),
            (D::Negotiating, Some("Negotiating")),
            (D::Inconsistent, Some("Inconsistent")),
            (D::Outdated, Some("Outdated")),
        ];
        for (disk, refusal) in table {
            let mut world = World::attaching();
            world.go_offline("n1");
            world.report("n2").peers[0].connection = "Connecting".into();
            world.report("n2").volumes[0].disk = disk.into();
            match (decision(&world, LATER), refusal) {
                (decision, None) => assert_eq!(decision, claimed(), "{disk:?}"),
                (Decision::Undecided(why), Some(word)) => {
                    assert!(why.contains(&format!("volume 0 of data on node n2 is {word}")), "{why}");
                    assert!(why.contains("bring node n1 back"), "{why}");
                }
                (decision, Some(_)) => panic!("{disk:?}: {decision:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_claimed_it_gets_it_once_it_was_seen_to_keep_the_holder_away() {
        let claim = |world: &mut World, node: &str| {
            let arbitration = world.resource.arbitration.as_mut().unwrap();
            arbitration.claim = Some(v1::TakeOverClaim { node: node.into(), number: 45 });
        };
        let taken = Decision::TakeOver {
            from: "n1".into(),
            generation: OwnerGeneration::new(1),
            claim: ClaimNumber::new(45),
        };
        let table = [
            ("n2", 45, Some("StandAlone"), Ok(())),
            ("n2", 46, Some("StandAlone"), Ok(())),
            ("n2", 45, None, Ok(())),
            ("n2", 44, Some("StandAlone"), Err("has not said yet that it keeps node n1 away")),
            ("n2", 45, Some("Connecting"), Err("has not said yet that it keeps node n1 away")),
            ("n2", 45, Some("Disconnecting"), Err("has not said yet that it keeps node n1 away")),
            ("n3", 45, Some("StandAlone"), Err("node n3 is about to take data over")),
        ];
        for (claimant, revision, connection, expected) in table {
            let mut world = World::attaching();
            world.go_offline("n1");
            claim(&mut world, claimant);
            let report = world.report("n2");
            report.revision = revision;
            match connection {
                Some(connection) => report.peers[0].connection = connection.into(),
                None => report.peers.clear(),
            }
            match (decision(&world, LATER), expected) {
                (decision, Ok(())) => assert_eq!(decision, taken, "{connection:?} under {revision}"),
                (Decision::Undecided(why), Err(words)) => assert!(why.contains(words), "{why}"),
                (decision, Err(_)) => panic!("{claimant}, {connection:?} under {revision}: {decision:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_does_not_make_up_for_what_speaks_against_a_take_over() {
        type Change = fn(&mut World);
        let table: [(&str, Change, &str); 3] = [
            (
                "its disk failed",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Failed.into(),
                "Failed",
            ),
            ("it is gone", |world| world.go_offline("n2"), "not connected to the controllers"),
            (
                "the holder was back before it was kept away",
                |world| world.report("n2").peers[0].connection = "Connected".into(),
                "its DRBD is connected to node n2",
            ),
        ];
        for (what, change, words) in table {
            let mut world = World::attaching();
            world.go_offline("n1");
            let arbitration = world.resource.arbitration.as_mut().unwrap();
            arbitration.claim = Some(v1::TakeOverClaim { node: "n2".into(), number: 45 });
            let report = world.report("n2");
            report.revision = 45;
            report.peers[0].connection = "StandAlone".into();
            change(&mut world);
            let Decision::Undecided(why) = decision(&world, LATER) else { panic!("{what}") };
            assert!(why.contains(words), "{what}: {why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_is_behind_is_refused() {
        let mut world = World::attaching();
        world.go_offline("n1");
        let arbitration = world.resource.arbitration.as_mut().unwrap();
        arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 45 }];
        let Decision::Refused(why) = decision(&world, LATER) else { panic!("n2 is behind") };
        assert!(why.contains("behind since revision 45"), "{why}");
    }
}
