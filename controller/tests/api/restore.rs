//! Backups, and what a restored cluster says and does through its port until every node has said what it holds.

use hawser_process::tls::Role;
use hawser_proto::v1::{self, cluster_service_client::ClusterServiceClient};
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};

use super::{
    bad_input::field,
    cluster::{Cluster, key, soon},
    lifecycle::{create, create_request, two_nodes},
    satellite::{Satellite, Script, hello, open},
};

async fn backup(mut client: ClusterServiceClient<Channel>) -> Result<(v1::SnapshotHeader, Vec<u8>), Status> {
    let mut chunks = client.backup(v1::BackupRequest {}).await?.into_inner();
    let header = chunks.message().await?.and_then(|first| first.header).expect("the header comes first");
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        assert!(chunk.encoded_len() < 128 * 1024, "a chunk of {} bytes", chunk.chunk.len());
        bytes.extend(chunk.chunk);
    }
    Ok((header, bytes))
}

/// What a satellite would say that it holds by its last document.
fn holdings(cluster: &Cluster, node: &str) -> Vec<v1::HeldReplica> {
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    let document = state.document(node).unwrap();
    let held = |replica: &v1::DesiredReplica| v1::HeldReplica {
        node: node.into(),
        lineage: document.lineage,
        revision: document.revision,
        resource: replica.resource.clone(),
        resource_incarnation: replica.resource_incarnation,
        replica_incarnation: replica.replica_incarnation,
        drbd_name: replica.drbd_name.clone(),
        volumes: replica.volumes.clone(),
        port: replica.peers.iter().find(|peer| peer.node == node).map_or(0, |peer| peer.port),
        peers: replica.peers.iter().map(|peer| peer.node.clone()).collect(),
        attachment: replica.attachment,
        data_may_exist: replica.day0_generation_id == 0,
        ..Default::default()
    };
    document.replicas.iter().map(held).collect()
}

async fn status(cluster: &Cluster) -> v1::GetStatusResponse {
    cluster.cluster_client(0).get_status(v1::GetStatusRequest {}).await.unwrap().into_inner()
}

async fn unknown(cluster: &Cluster) -> Vec<v1::UnknownReplica> {
    let request = v1::ListUnknownRequest::default();
    cluster.cluster_client(0).list_unknown(request).await.unwrap().into_inner().replicas
}

/// Asks again and again until the status is as wanted.
async fn until(cluster: &Cluster, what: &str, wanted: impl Fn(&v1::GetStatusResponse) -> bool) {
    let reached = async {
        while !wanted(&status(cluster).await) {
            tokio::task::yield_now().await;
        }
    };
    soon(what, reached).await;
}

fn holding(holds: Vec<v1::HeldReplica>, left: v1::Presence) -> Script {
    Script { holds, left, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_all_that_was_acknowledged_whoever_is_asked() {
    let cluster = Cluster::of_three().await;
    for member in 0..3 {
        let name = format!("n{}", member + 1);
        cluster.create_node(&name).await;
        let (header, bytes) = soon("a backup", backup(cluster.cluster_client(member))).await.unwrap();

        let (read, records) = hawser_proto::snapshot_file::open(bytes.as_slice()).unwrap();
        assert_eq!(read, header);
        assert_eq!((header.lineage, header.cluster_name.as_str()), (1, "test"));
        let has_it = |record: &v1::SnapshotRecord| matches!(&record.record, Some(v1::snapshot_record::Record::Node(node)) if node.name == name);
        assert!(records.into_iter().any(|record| has_it(&record)), "{name} is missing");
    }
    for role in [Role::Satellite, Role::Controller] {
        let client = ClusterServiceClient::new(cluster.channel(0, role, "n1"));
        let refused = backup(client).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_there_is_no_backup() {
    let mut cluster = Cluster::of_three().await;
    for member in [1, 2] {
        let controller = cluster.members[member].controller.take().unwrap();
        soon("the end", controller.stop()).await;
    }
    let asked = async {
        loop {
            match backup(cluster.cluster_client(0)).await {
                // Its lease may not have ended yet.
                Ok(_) => {}
                Err(refused) => return refused,
            }
        }
    };
    let refused = soon("the refusal", asked).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_waits_for_its_nodes_and_leaves_alone_what_it_does_not_know() {
    // Given a backup, and a resource that was made after it.
    let mut cluster = Cluster::single().await;
    let satellites = two_nodes(&cluster).await;
    create(&cluster, "kept").await;
    let (_, bytes) = backup(cluster.cluster_client(0)).await.unwrap();
    create(&cluster, "newer").await;
    let holds = ["n1", "n2"].map(|node| holdings(&cluster, node));
    let newer = holds[0].iter().find(|held| held.resource == "newer").unwrap().clone();
    drop(satellites);
    cluster.restore(&bytes, 2).await;

    // Then it waits for both nodes, and changes nothing before.
    until(&cluster, "a leader", |status| status.has_quorum).await;
    assert_eq!(status(&cluster).await.waits_for_nodes, ["n1", "n2"]);
    let _first =
        Satellite::playing(&cluster, 0, "n1", holding(holds[0].clone(), v1::Presence::Present)).await;
    until(&cluster, "the first node's word", |status| status.waits_for_nodes == ["n2"]).await;
    let mut resources = cluster.resources(0);
    let delete = v1::DeleteResourceRequest { request_key: key(), name: "kept".into() };
    let refused = resources.delete_resource(delete).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("it waits for n2"), "{}", refused.message());
    let refused = resources.create_resource(create_request("early")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("it waits for n2"), "{}", refused.message());
    let nodes =
        cluster.nodes(0).list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert!(nodes[1].conditions.iter().any(|condition| condition.reason == "HoldingsUnknown"), "{nodes:?}");

    // When the other has said what it holds.
    let second =
        Satellite::playing(&cluster, 0, "n2", holding(holds[1].clone(), v1::Presence::Present)).await;
    until(&cluster, "both nodes' word", |status| status.waits_for_nodes.is_empty()).await;

    // Then what is known goes on, and what is unknown is shown and its name and numbers are not given.
    assert_eq!(status(&cluster).await.unknown_replicas, 2);
    let shown = async {
        loop {
            let unknown = unknown(&cluster).await;
            if unknown.iter().all(|replica| replica.presence() == v1::Presence::Present) {
                return unknown;
            }
        }
    };
    let shown: Vec<_> = soon("its sight", shown).await.into_iter().filter_map(|it| it.held).collect();
    assert_eq!(
        shown.iter().map(|held| (held.resource.as_str(), held.node.as_str())).collect::<Vec<_>>(),
        [("newer", "n1"), ("newer", "n2")]
    );
    let refused = cluster.resources(0).create_resource(create_request("newer")).await.unwrap_err();
    assert_eq!((refused.code(), field(&refused).as_str()), (Code::AlreadyExists, "name"));
    create(&cluster, "next").await;
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    let next = state.resource("next").unwrap();
    assert!(
        next.volumes[0].minor != newer.volumes[0].minor && next.replicas[0].port != newer.port,
        "{next:?}"
    );
    assert!(state.nodes().all(|node| state.document(&node.name).unwrap().removed.is_empty()));

    // And once nothing of it is left, it is forgotten.
    second.play(|script| script.left = v1::Presence::Absent).await;
    until(&cluster, "one forgotten", |status| status.unknown_replicas == 1).await;

    // A satellite that obeys another restore, or that this one is older than, is told so.
    let n1 = || cluster.channel(0, Role::Satellite, "n1");
    for (lineage, restore_id, words) in
        [(2, 5, "has accepted another restore"), (3, 0xbac3, "has obeyed orders of lineage 3")]
    {
        let seen = v1::Hello { lineage, revision: 9, restore_id, ..hello("n1") };
        let refused = soon("the refusal", open(n1(), seen)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_was_deleted_since_says_what_became_of_it() {
    let mut cluster = Cluster::single().await;
    let satellites = two_nodes(&cluster).await;
    create(&cluster, "gone").await;
    let (_, bytes) = backup(cluster.cluster_client(0)).await.unwrap();
    drop(satellites);
    cluster.restore(&bytes, 2).await;
    let _satellites = [Satellite::start(&cluster, 0, "n1").await, Satellite::start(&cluster, 0, "n2").await];
    until(&cluster, "both nodes' word", |status| status.has_quorum && status.waits_for_nodes.is_empty())
        .await;

    let request = v1::ListResourcesRequest::default();
    let resources = cluster.resources(0).list_resources(request).await.unwrap().into_inner().resources;
    let conditions = &resources[0].conditions;
    assert_eq!(
        conditions.iter().filter(|condition| condition.reason == "Missing").count(),
        2,
        "{conditions:?}"
    );
    assert!(conditions[0].message.contains("removed since the backup"), "{}", conditions[0].message);
    let delete = v1::DeleteResourceRequest { request_key: key(), name: "gone".into() };
    let deleted = cluster.resources(0).delete_resource(delete).await.unwrap().into_inner();
    let operation = cluster.wait(0, deleted.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded, "{operation:?}");
}
