//! Creation, attachment, restart, removal.

use std::time::Duration;

use hawser_proto::{
    ids::DocumentVersion,
    v1::{self, DesiredAttachment},
};
use hawser_satellite::host::sim::WriteState;

use crate::{
    cluster::{Cluster, GATE},
    counting::Fault,
};

#[tokio::test(start_paused = true)]
async fn a_created_resource_is_in_sync_at_once_and_nothing_is_done_twice() {
    let cluster = Cluster::with_db().await;

    let steps = cluster.host("n1").take_steps();

    assert_eq!(steps, ["create-storage", "create-metadata", "write-configuration", "bring-up"]);
    let report = cluster.report("n1", "db");
    assert!(report.revision >= 1 && report.failure.is_none(), "{report:#?}");
    assert_eq!(report.presence(), v1::Presence::Present);
    assert_eq!(report.peers[0].volumes[0].out_of_sync_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_attached_written_and_detached() {
    let cluster = Cluster::attached().await;
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    cluster
        .until("it is written", |cluster| {
            cluster.world.write_state("n1", writer) == Some(WriteState::Acknowledged)
        })
        .await;

    cluster
        .commit(|raft| {
            raft.attachments.insert("n1".into(), DesiredAttachment::Detached);
        })
        .await;
    cluster.until("the writer is named", |cluster| !cluster.report("n1", "db").waits_for.is_empty()).await;
    assert!(
        cluster.report("n1", "db").waits_for.contains("held open by"),
        "{:?}",
        cluster.report("n1", "db")
    );
    cluster.host("n1").report_no_changes();
    // Whatever was under way is seen by now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.world.kill("n1", writer);

    let taken = cluster
        .until("it is detached", |cluster| {
            let report = cluster.report("n1", "db");
            report.role() == v1::DrbdRole::Secondary && !report.gate_open
        })
        .await;
    assert!(taken <= Duration::from_secs(2), "{taken:?}, though no event tells that a gate was let go");
    cluster.attach("n2").await;
    assert_eq!(cluster.world.read("n2", GATE, 1), Some(42));
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_is_due_until_it_was_adjusted_also_after_a_restart() {
    let mut cluster = Cluster::attached().await;
    cluster.host("n1").take_steps();
    cluster.host("n1").break_adjusting(Some(Fault::Fail));

    cluster
        .commit(|raft| {
            raft.net_options.insert("max-buffers".into(), "4000".into());
        })
        .await;

    let fails = |cluster: &Cluster| cluster.report("n1", "db").failure.is_some_and(|it| it.step == "adjust");
    cluster.until("it is said", fails).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(fails(&cluster), "it is not forgotten");

    cluster.stop("n1").await;
    cluster.host("n1").break_adjusting(None);
    cluster.start("n1").await;
    cluster.until("it is followed", |cluster| cluster.is_attached("n1")).await;
    tokio::time::sleep(Duration::from_secs(120)).await;

    assert_eq!(cluster.report("n1", "db").failure, None);
    assert_eq!(cluster.host("n1").take_steps().last(), Some(&"adjust"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cluster.host("n1").take_steps(), [""; 0], "once");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_satellite_changes_nothing_on_a_running_node() {
    for controllers in [true, false] {
        let mut cluster = Cluster::attached().await;
        cluster.host("n1").take_steps();

        cluster.stop("n1").await;
        assert_eq!(cluster.host("n1").take_steps(), [""; 0], "ending touches nothing");
        cluster.controllers_reach("n1", controllers).await;
        cluster.start("n1").await;
        cluster.until("it reports again", |cluster| cluster.is_attached("n1")).await;
        tokio::time::sleep(Duration::from_secs(120)).await;

        assert_eq!(cluster.host("n1").take_steps(), [""; 0], "with controllers: {controllers}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_without_controllers_replicas_connect_but_nobody_is_promoted() {
    let mut cluster = Cluster::attached().await;
    cluster.controllers_reach("n1", false).await;
    cluster.controllers_reach("n2", false).await;

    cluster.power_cycle("n1").await;
    cluster.start("n1").await;
    cluster.until("it is connected", |cluster| cluster.in_sync("n1")).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let report = cluster.report("n1", "db");
    assert_eq!(report.role(), v1::DrbdRole::Secondary);
    assert!(report.waits_for.contains("still owns the resource"), "{}", report.waits_for);

    cluster.controllers_reach("n1", true).await;
    cluster.until("it is attached again", |cluster| cluster.is_attached("n1")).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_removed_replica_nothing_is_left() {
    let cluster = Cluster::with_db().await;

    cluster.commit(|raft| raft.removed = true).await;
    cluster
        .until("both are gone", |cluster| {
            ["n1", "n2"].iter().all(|node| cluster.facts(node).removed.len() == 1)
        })
        .await;

    for node in ["n1", "n2"] {
        let report = cluster.report(node, "db");
        assert_eq!(report.presence(), v1::Presence::Absent, "{report:#?}");
        assert!(
            *cluster.facts(node).removed.values().next().unwrap() >= DocumentVersion::new(1, 3),
            "seen under the removal's revision"
        );
    }
    cluster.host("n1").take_steps();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cluster.host("n1").take_steps(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_cannot_be_made_delays_no_other() {
    for fault in [Fault::Fail, Fault::Hang] {
        let cluster = Cluster::with_db().await;
        cluster.host("n1").break_creation_of("log.9-0", Some(fault));
        cluster.commit(|raft| raft.with_log = true).await;
        // Under way, and stuck or failing.
        tokio::time::sleep(Duration::from_secs(1)).await;

        cluster.attach("n1").await;
        assert_eq!(cluster.report("n1", "log").presence(), v1::Presence::Absent, "{fault:?}");

        cluster.host("n1").break_creation_of("log.9-0", None);
        cluster
            .until("it is made", |cluster| {
                cluster.report("n1", "log").failure.is_none() && cluster.resource_in_sync("n1", "log")
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_step_is_reported_and_tried_again_less_and_less_often() {
    let cluster = Cluster::new().await;
    cluster.host("n1").break_creation_of("db.5-0", Some(Fault::Fail));

    cluster.commit(|_| {}).await;
    tokio::time::sleep(Duration::from_secs(600)).await;

    let failure = cluster.report("n1", "db").failure.unwrap();
    assert_eq!(
        (failure.step.as_str(), failure.message.as_str()),
        ("create-storage", "volume: the pool is full")
    );
    let tries = cluster.host("n1").take_steps().len();
    assert!((20..=40).contains(&tries), "{tries} tries in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_vanished_is_not_made_again() {
    let mut cluster = Cluster::with_db().await;
    cluster.power_cycle("n1").await;
    cluster.world.remove_volume("n1", "vg0", "db.5-0");
    cluster.host("n1").take_steps();

    cluster.start("n1").await;
    cluster.until("it says so", |cluster| cluster.report("n1", "db").waits_for.contains("is missing")).await;

    // By that the controllers know that it has let go of whatever it had attached.
    let report = cluster.report("n1", "db");
    assert_eq!((report.in_kernel(), report.gates()), (v1::Presence::Absent, v1::Presence::Absent));
    assert_eq!(cluster.host("n1").take_steps(), [""; 0]);
}
