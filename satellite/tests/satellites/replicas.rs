//! A replica joins one that is written to, and leaves it again.

use hawser_proto::v1;
use hawser_satellite::host::sim::WriteState;

use crate::cluster::{Cluster, GATE, Second};

/// n1 has the only replica of "db", attached.
async fn alone() -> Cluster {
    let cluster = Cluster::new().await;
    cluster
        .commit(|raft| {
            raft.second = Second::Absent;
            raft.day0 = 0x1234_5678_9abc_def0;
        })
        .await;
    let up_to_date = |cluster: &Cluster| {
        let report = cluster.report("n1", "db");
        report.volumes.iter().any(|volume| volume.disk() == v1::DiskState::UpToDate)
    };
    cluster.until("n1 is up", up_to_date).await;
    cluster.commit(|raft| raft.day0 = 0).await;
    cluster.attach("n1").await;
    cluster
}

/// As the state machine's CreateReplica.
async fn join(cluster: &Cluster) {
    cluster
        .commit(|raft| {
            raft.second = Second::There;
            raft.mark("n2");
        })
        .await;
}

/// As the state machine's DeleteReplica.
async fn leave(cluster: &Cluster) {
    cluster
        .commit(|raft| {
            raft.second = Second::Leaving;
            raft.mark("n2");
        })
        .await;
}

async fn written(cluster: &Cluster, record: u64) {
    let writer = cluster.world.write("n1", GATE, 1, record).unwrap();
    let is_acknowledged =
        |cluster: &Cluster| cluster.world.write_state("n1", writer) == Some(WriteState::Acknowledged);
    cluster.until("it is written", is_acknowledged).await;
    cluster.world.kill("n1", writer);
}

#[tokio::test(start_paused = true)]
async fn a_replica_joins_a_writer_and_leaves_it_again() {
    // Given n1, which writes alone.
    let mut cluster = alone().await;
    written(&cluster, 1).await;

    // When a replica joins on n2, and both satellites start again on the way.
    join(&cluster).await;
    for node in ["n2", "n1"] {
        cluster.stop(node).await;
        cluster.start(node).await;
    }
    cluster.until("n2 has synced", |cluster| cluster.in_sync("n1") && cluster.in_sync("n2")).await;
    written(&cluster, 2).await;
    cluster.commit(|raft| raft.outdated.clear()).await;

    // When it is to leave, n1 goes on alone, and n2 keeps what it has.
    leave(&cluster).await;
    cluster.until("n1 has let go", |cluster| cluster.follows("n1")).await;
    assert_eq!(cluster.report("n1", "db").peers, []);
    written(&cluster, 3).await;
    assert_eq!(cluster.report("n2", "db").presence(), v1::Presence::Present);

    // When it has to go, nothing is left of it, and n1 has noticed nothing.
    cluster.commit(|raft| raft.second = Second::Removing).await;
    cluster.until("n2 has nothing", |cluster| !cluster.facts("n2").removed.is_empty()).await;
    written(&cluster, 4).await;
    assert!(cluster.is_attached("n1"));
    assert_eq!(cluster.world.read("n1", GATE, 1), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_frozen_for_a_peer_which_leaves_goes_on_without_a_question() {
    // Given a Primary that lost its peer while its satellite is away.
    let mut cluster = Cluster::attached().await;
    cluster.stop("n1").await;
    cluster.world.link("n1", "n2", false);
    let writer = cluster.world.write("n1", GATE, 1, 7).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(cluster.world.write_state("n1", writer), Some(WriteState::Pending));

    // When the peer is to leave meanwhile.
    leave(&cluster).await;
    let mark = cluster.raft().outdated;
    cluster.start("n1").await;

    // Then n1 goes on, and the mark is the one that stood.
    let goes_on =
        |cluster: &Cluster| cluster.world.write_state("n1", writer) == Some(WriteState::Acknowledged);
    cluster.until("it goes on", goes_on).await;
    cluster.until("n1 has let go", |cluster| cluster.follows("n1")).await;
    assert_eq!(cluster.raft().outdated, mark);
}

#[tokio::test(start_paused = true)]
async fn the_last_replica_comes_back_by_itself_after_a_power_cut() {
    // Given n1, which was told that its peer leaves while it had no power.
    let mut cluster = Cluster::attached().await;
    written(&cluster, 5).await;
    cluster.world.cut_power("n1");
    cluster.stop("n1").await;
    leave(&cluster).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;

    // When it boots.
    cluster.world.boot("n1");
    cluster.start("n1").await;

    // Then it is attached again, and waits for nobody.
    cluster.until("it is attached", |cluster| cluster.is_attached("n1")).await;
    assert_eq!(cluster.world.read("n1", GATE, 1), Some(5));
    written(&cluster, 6).await;
    assert!(cluster.follows("n1"));
}

#[tokio::test(start_paused = true)]
async fn room_that_a_confirmed_removal_has_freed_is_reported_soon() {
    // Given a removal that is done and not confirmed, and a pool that was looked at a moment ago.
    let cluster = Cluster::with_db().await;
    leave(&cluster).await;
    cluster.until("n1 has let go", |cluster| cluster.follows("n1")).await;
    cluster.commit(|raft| raft.second = Second::Removing).await;
    cluster.until("n2 has nothing", |cluster| !cluster.facts("n2").removed.is_empty()).await;
    let looks = || cluster.host("n2").pool_looks();
    let before = looks();
    cluster.until("a regular look", |_| looks() > before).await;
    let before = looks();

    // When it is confirmed, the pool is looked at long before its turn.
    cluster.commit(|raft| raft.second = Second::Absent).await;
    let taken = cluster.until("another look", |_| looks() > before).await;

    assert!(taken < std::time::Duration::from_secs(2), "{taken:?}");
}
