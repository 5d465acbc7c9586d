//! Why desired and observed differ, in words that name object, node and remedy. One place for all views.
//!
//! Pure: it never contacts a node. Where nothing is observed (a member that does not lead) only what Raft knows
//! is said. The order is that of usefulness: the first condition is what an operation waits for.

mod attachment;
mod node;
mod phase;
mod replica;

use hawser_proto::v1;

pub use self::{
    attachment::{of_attachment, of_operation},
    node::{of_node, of_pool},
    phase::{Phase, phase_of},
    replica::{disk_word, of_replica, of_resource},
};

fn condition(reason: &str, node: &str, message: impl Into<String>) -> v1::Condition {
    v1::Condition { reason: reason.into(), node: node.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hawser_proto::ids::Lineage;

    use super::*;
    use crate::leader::loops::table::World;

    fn words(conditions: &[v1::Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|condition| (condition.reason.as_str(), condition.node.as_str())).collect()
    }

    #[test]
    fn a_resource_in_order_has_none() {
        let world = World::attaching();
        let (state, observed) = (world.state(), world.observed());
        assert_eq!(of_resource(&state, Some(&observed), &world.resource), []);
        assert_eq!(of_attachment(&state, Some(&observed), &world.attachments[0]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_is_an_alarm_only_when_no_resync_follows_it() {
        let mut world = World::attaching();
        world.report("n1").peers[0].volumes[0].out_of_sync_bytes = 4096;
        let found = || of_resource(&world.state(), Some(&world.observed()), &world.resource);

        assert_eq!(words(&found()), [("Syncing", "n1")], "the node has just come back");
        assert!(found()[0].message.contains("a resync is about to begin"), "{}", found()[0].message);
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(words(&found()), [("Syncing", "n1")]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(words(&found()), [("OutOfSync", "n1")]);
        assert!(found()[0].message.contains("ALARM"), "{}", found()[0].message);
    }

    #[test]
    fn each_difference_is_named_with_its_node() {
        type Change = fn(&mut World);
        type Case = (&'static str, Change, &'static [(&'static str, &'static str)]);
        let table: [Case; 10] = [
            ("offline", |world| world.go_offline("n2"), &[("NodeUnreachable", "n2")]),
            ("no full report", |world| world.seen("n2").complete = false, &[("NotReported", "n2")]),
            (
                "another lineage",
                |world| {
                    let seen = world.seen("n2");
                    (seen.complete, seen.other_lineage) = (false, Some(Lineage::new(2)));
                },
                &[("OtherLineage", "n2")],
            ),
            ("no replica", |world| world.forget("n2"), &[("NotCreated", "n2")]),
            (
                "unknown",
                |world| world.report("n2").presence = v1::Presence::Unknown.into(),
                &[("Unknown", "n2")],
            ),
            (
                "cut off",
                |world| world.report("n1").peers[0].connection = "Connecting".into(),
                &[("NotConnected", "n1")],
            ),
            ("frozen", |world| world.report("n1").suspended = "fencing".into(), &[("Frozen", "n1")]),
            (
                "failing",
                |world| {
                    world.report("n2").failure = Some(v1::StepFailure {
                        step: "create-storage".into(),
                        command: "lvcreate -n x".into(),
                        message: "pool is full".into(),
                        attempts: 3,
                    });
                },
                &[("StepFailed", "n2")],
            ),
            (
                "syncing",
                |world| {
                    let volume = &mut world.report("n1").peers[0].volumes[0];
                    volume.replication = "SyncSource".into();
                    volume.out_of_sync_bytes = 4096;
                },
                &[("Syncing", "n1")],
            ),
            (
                "disk lost",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into(),
                &[("DiskNotUpToDate", "n2")],
            ),
        ];
        for (what, change, expected) in table {
            let mut world = World::attaching();
            change(&mut world);
            let found = of_resource(&world.state(), Some(&world.observed()), &world.resource);
            assert_eq!(words(&found), expected, "{what}");
            assert!(found[0].message.contains(expected[0].1), "{}", found[0].message);
        }
    }

    #[test]
    fn a_revoked_attachment_names_who_holds_it() {
        let mut world = World::attaching();
        world.attachments[0].lifecycle = v1::AttachmentLifecycle::Revoked.into();
        world.report("n1").openers = vec![v1::Opener { pid: 77, name: "postgres".into() }];
        let found = of_attachment(&world.state(), Some(&world.observed()), &world.attachments[0]);
        assert_eq!(words(&found), [("Revoked", "n1"), ("HeldOpen", "n1")]);
        assert!(found[1].message.contains("postgres (pid 77)"), "{}", found[1].message);
    }

    #[test]
    fn a_member_that_observes_nothing_says_what_raft_knows() {
        let mut world = World::attaching();
        let arbitration = world.resource.arbitration.get_or_insert_default();
        arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 45 }];
        let found = of_resource(&world.state(), None, &world.resource);
        assert_eq!(words(&found), [("Outdated", "n2")]);
    }
}
