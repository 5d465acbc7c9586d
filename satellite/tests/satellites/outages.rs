//! Links, controllers, nodes and helpers that go away, and who may go on.

use std::time::Duration;

use hawser_proto::v1;
use hawser_satellite::host::sim::WriteState;

use crate::cluster::{Cluster, GATE};

fn acknowledged(cluster: &Cluster, node: &str, writer: i32) -> bool {
    cluster.world.write_state(node, writer) == Some(WriteState::Acknowledged)
}

#[tokio::test(start_paused = true)]
async fn a_primary_cut_off_from_its_peer_alone_goes_on_and_the_peer_may_not_take_over() {
    let cluster = Cluster::attached().await;
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();

    let taken = cluster.until("it goes on", |cluster| acknowledged(cluster, "n1", writer)).await;

    assert!(taken <= Duration::from_secs(4), "{taken:?}");
    assert!(cluster.raft().outdated.contains_key("n2"));
    assert_eq!(cluster.take_over("n2").await, Err("n2 is outdated".into()));

    cluster.world.link("n1", "n2", true);
    cluster.until("n2 has synced", |cluster| cluster.in_sync("n1") && cluster.in_sync("n2")).await;
}

#[tokio::test(start_paused = true)]
async fn a_primary_cut_off_from_everybody_freezes_and_returns_when_its_writer_is_dead() {
    let cluster = Cluster::attached().await;
    cluster.world.link("n1", "n2", false);
    cluster.controllers_reach("n1", false).await;
    let frozen = cluster.world.write("n1", GATE, 1, 1).unwrap();
    cluster.until("n1 is frozen", |cluster| cluster.report("n1", "db").suspended == "fencing").await;

    cluster.take_over("n2").await.unwrap();
    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
    let writer = cluster.world.write("n2", GATE, 1, 2).unwrap();
    cluster.until("n2 writes", |cluster| acknowledged(cluster, "n2", writer)).await;

    cluster.world.link("n1", "n2", true);
    cluster.controllers_reach("n1", true).await;
    cluster
        .until("it is named", |cluster| cluster.report("n1", "db").waits_for.contains("frozen until"))
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.world.write_state("n1", frozen), Some(WriteState::Pending), "with a living writer");

    cluster.world.kill("n1", frozen);
    cluster.until("n1 is back", |cluster| cluster.in_sync("n1")).await;
    assert!(cluster.is_attached("n2"));
    assert_eq!(cluster.world.read("n2", GATE, 1), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_loser_stays_frozen_while_the_kernel_counts_an_opener_that_nobody_finds() {
    let cluster = Cluster::attached().await;
    let hidden = cluster.world.write("n1", GATE, 2, 1).unwrap();
    cluster.until("it is written", |cluster| acknowledged(cluster, "n1", hidden)).await;
    cluster.world.hide("n1", hidden);
    cluster.world.link("n1", "n2", false);
    cluster.controllers_reach("n1", false).await;
    let frozen = cluster.world.write("n1", GATE, 1, 1).unwrap();
    cluster.until("n1 is frozen", |cluster| cluster.report("n1", "db").suspended == "fencing").await;
    cluster.take_over("n2").await.unwrap();
    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
    cluster.world.link("n1", "n2", true);
    cluster.controllers_reach("n1", true).await;

    // All that are found are dead, and one that still lives is not found.
    cluster.world.kill("n1", frozen);
    cluster
        .until("it says so", |cluster| {
            cluster.report("n1", "db").waits_for.contains("the kernel counts 2, found: writer")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.world.write_state("n1", frozen), Some(WriteState::Pending));

    cluster.world.kill("n1", hidden);
    cluster.until("n1 is back", |cluster| cluster.in_sync("n1")).await;
    assert_eq!(cluster.world.write_state("n1", frozen), None);
}

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_the_survivor_takes_over_and_the_other_returns() {
    let mut cluster = Cluster::attached().await;
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    cluster.until("it is written", |cluster| acknowledged(cluster, "n1", writer)).await;

    cluster.power_cycle("n1").await;
    cluster.world.link("n1", "n2", false);
    cluster.take_over("n2").await.unwrap();
    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
    assert_eq!(cluster.world.read("n2", GATE, 1), Some(42));

    cluster.world.link("n1", "n2", true);
    cluster.start("n1").await;
    cluster.until("n1 is back", |cluster| cluster.in_sync("n1")).await;
    assert_eq!(cluster.report("n1", "db").role(), v1::DrbdRole::Secondary);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_primary_that_is_back_is_no_source_of_a_sync_to_whoever_is_about_to_take_over() {
    let mut cluster = Cluster::attached().await;
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    cluster.until("it is written", |cluster| acknowledged(cluster, "n1", writer)).await;
    cluster.power_cycle("n1").await;
    cluster.claim("n2").await.unwrap();

    // It finds no controller that would let it go on without n2. The survivor's own node is off for a moment, too: what
    // it keeps away it keeps away when it is back.
    cluster.controllers_reach("n1", false).await;
    cluster.power_cycle("n2").await;
    for node in ["n1", "n2"] {
        cluster.start(node).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for node in ["n1", "n2"] {
        let report = cluster.report(node, "db");
        assert!(report.peers.iter().all(|peer| peer.connection != "Connected"), "{node}: {report:?}");
        assert_eq!(report.volumes[0].disk(), v1::DiskState::Consistent, "{node}");
    }

    // Nobody asks for it any more: the two meet, and the old owner goes on.
    cluster.commit(|raft| raft.claim = None).await;
    cluster.until("they are in sync", |cluster| cluster.in_sync("n2")).await;
    cluster.controllers_reach("n1", true).await;
    cluster.until("n1 has it again", |cluster| cluster.is_attached("n1") && cluster.in_sync("n2")).await;
    assert_eq!(cluster.world.read("n1", GATE, 1), Some(42));
}

/// n1 is frozen with a write that n2 has not got, and cannot ask. n2 has booted, and the two meet: DRBD acknowledges the
/// write on n1 alone, and breaks the connection for a moment. In that moment n1 loses its power.
async fn acknowledged_alone_in_a_reunion(mut cluster: Cluster) -> Cluster {
    cluster.controllers_reach("n1", false).await;
    cluster.world.cut_power("n2");
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    cluster.until("n1 is frozen", |cluster| cluster.report("n1", "db").suspended == "fencing").await;
    cluster.stop("n2").await;
    cluster.world.boot("n2");
    cluster.start("n2").await;
    cluster.until("it is acknowledged alone", |cluster| acknowledged(cluster, "n1", writer)).await;
    assert!(!cluster.raft().outdated.contains_key("n2"), "nobody was asked");
    cluster.world.cut_power("n1");
    cluster.stop("n1").await;
    cluster
}

/// n2 claims the resource: for a minute no report of it may give it away, and the controllers hear that it may be behind.
async fn never_takes_over_what_it_lacks(cluster: &Cluster, what: &str) {
    cluster.begin_claim("n2").await;
    for _ in 0..600 {
        assert!(!cluster.could_take_over("n2"), "{what}: {:#?}", cluster.report("n2", "db"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(cluster.raft().outdated.contains_key("n2"), "{what}: the controllers have heard of it");
}

#[tokio::test(start_paused = true)]
async fn what_a_primary_acknowledged_alone_in_a_reunion_is_not_lost_to_the_peer_that_lacks_it() {
    type Interlude = fn(&mut Cluster) -> futures::future::BoxFuture<'_, ()>;
    let interludes: [(&str, Interlude); 3] = [
        ("nothing", |_| Box::pin(async {})),
        ("its satellite is started again", |cluster| {
            Box::pin(async {
                cluster.stop("n2").await;
                cluster.start("n2").await;
            })
        }),
        ("its node boots again", |cluster| {
            Box::pin(async {
                cluster.power_cycle("n2").await;
                cluster.start("n2").await;
            })
        }),
    ];
    for (what, interlude) in interludes {
        let mut cluster = acknowledged_alone_in_a_reunion(Cluster::attached().await).await;
        interlude(&mut cluster).await;
        never_takes_over_what_it_lacks(&cluster, what).await;

        cluster.commit(|raft| raft.claim = None).await;
        cluster.world.boot("n1");
        cluster.controllers_reach("n1", true).await;
        cluster.start("n1").await;
        cluster.until("n1 has it again", |cluster| cluster.is_attached("n1") && cluster.in_sync("n2")).await;
        assert_eq!(cluster.world.read("n1", GATE, 1), Some(42), "{what}");
    }
}

/// As [`Cluster::attached`], but n2 has not noted that its disk is current: its satellite ended before the two connected.
async fn attached_before_it_was_noted_as_current() -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.world.link("n1", "n2", false);
    cluster.commit(|raft| raft.day0 = 0x1234_5678_9abc_def0).await;
    let is_up = |cluster: &Cluster, node| !cluster.report(node, "db").volumes.is_empty();
    cluster.until("both are up", |cluster| is_up(cluster, "n1") && is_up(cluster, "n2")).await;
    cluster.stop("n2").await;
    cluster.world.link("n1", "n2", true);
    cluster.until("they are in sync", |cluster| cluster.in_sync("n1")).await;
    cluster.commit(|raft| raft.day0 = 0).await;
    cluster.attach("n1").await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn what_a_primary_acknowledged_alone_is_not_lost_to_a_peer_that_never_noted_that_it_was_current() {
    let cluster = acknowledged_alone_in_a_reunion(attached_before_it_was_noted_as_current().await).await;
    never_takes_over_what_it_lacks(&cluster, "its note was lost with the power").await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_may_be_behind_is_used_once_a_person_has_given_up_the_other_one() {
    let cluster = acknowledged_alone_in_a_reunion(Cluster::attached().await).await;
    cluster.until("it counts as behind", |cluster| cluster.raft().outdated.contains_key("n2")).await;
    // Its satellite has the answer.
    tokio::time::sleep(Duration::from_secs(1)).await;

    cluster
        .commit(|raft| {
            raft.first_is_lost = true;
            raft.outdated.clear();
            raft.attachments.clear();
        })
        .await;

    cluster.attach("n2").await;
    assert_eq!(cluster.world.read("n2", GATE, 1), Some(0), "what n1 alone had is gone");
}

/// As the leader: takes an outdating back once both sides' reports under it show the two in sync.
async fn clear_when_synced(cluster: &Cluster) {
    cluster
        .until("both report that they are in sync", |cluster| {
            let under_it = |node| cluster.report(node, "db").revision == cluster.raft().revision();
            ["n1", "n2"].into_iter().all(|node| cluster.in_sync(node) && under_it(node))
        })
        .await;
    cluster.commit(|raft| raft.outdated.clear()).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_has_met_a_primary_after_a_boot_is_outdated_once_more_and_then_left_alone() {
    let mut cluster = Cluster::attached().await;
    cluster.power_cycle("n2").await;
    cluster.until("n1 has gone on alone", |cluster| cluster.raft().outdated.contains_key("n2")).await;
    let by_the_owner = cluster.raft().outdated["n2"];
    cluster.start("n2").await;
    cluster.until("n2 wants proof", |cluster| cluster.raft().outdated["n2"] > by_the_owner).await;

    clear_when_synced(&cluster).await;

    let revision = cluster.raft().revision();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((cluster.raft().revision(), cluster.raft().outdated.len()), (revision, 0));
    cluster.power_cycle("n1").await;
    cluster.take_over("n2").await.unwrap();
    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_booted_and_met_nobody_takes_over() {
    let mut cluster = Cluster::attached().await;
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    cluster.until("it is written", |cluster| acknowledged(cluster, "n1", writer)).await;
    for node in ["n1", "n2"] {
        cluster.world.cut_power(node);
        cluster.stop(node).await;
    }
    cluster.world.boot("n2");
    cluster.start("n2").await;

    cluster.take_over("n2").await.unwrap();

    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
    assert_eq!(cluster.world.read("n2", GATE, 1), Some(42));
}

#[tokio::test(start_paused = true)]
async fn with_neither_controllers_nor_peer_io_waits_and_goes_on_when_they_answer() {
    let cluster = Cluster::attached().await;
    cluster.controllers_reach("n1", false).await;
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(cluster.world.write_state("n1", writer), Some(WriteState::Pending));

    cluster.controllers_reach("n1", true).await;

    cluster.until("it goes on", |cluster| acknowledged(cluster, "n1", writer)).await;
}

#[tokio::test(start_paused = true)]
async fn a_helper_waits_while_its_satellite_restarts() {
    let mut cluster = Cluster::attached().await;
    cluster.controllers_reach("n1", false).await;
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;

    cluster.stop("n1").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    cluster.start("n1").await;
    cluster.controllers_reach("n1", true).await;

    cluster.until("it goes on", |cluster| acknowledged(cluster, "n1", writer)).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_helper_was_killed_the_satellite_asks_and_resumes() {
    let cluster = Cluster::attached().await;
    cluster.helpers_die();
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 42).unwrap();

    cluster.until("it goes on", |cluster| acknowledged(cluster, "n1", writer)).await;

    assert!(cluster.raft().outdated.contains_key("n2"));
    assert!(cluster.host("n1").take_steps().contains(&"resume-io"));
}

#[tokio::test(start_paused = true)]
async fn both_ask_at_once_and_one_is_told_yes() {
    let cluster = Cluster::attached().await;
    cluster.controllers_reach("n1", false).await;
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 1).unwrap();
    cluster.until("n1 is frozen", |cluster| cluster.report("n1", "db").suspended == "fencing").await;

    // The take-over is committed; n1's question arrives afterwards, with the old generation.
    cluster.take_over("n2").await.unwrap();
    cluster.controllers_reach("n1", true).await;
    cluster.until("n2 has it", |cluster| cluster.is_attached("n2")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(cluster.world.write_state("n1", writer), Some(WriteState::Pending));
    assert!(!cluster.raft().outdated.contains_key("n1") || cluster.raft().owner == "n2");
}
