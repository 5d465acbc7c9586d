//! A resource from its creation to its end, as a person sees it through the API.

use hawser_proto::{
    ids::OperationId,
    v1::{self, watch_service_client::WatchServiceClient},
};
use tonic::Code;

use super::{
    cluster::{Cluster, key, soon},
    satellite::Satellite,
};

/// Two nodes with a pool each, their satellites connected.
pub(crate) async fn two_nodes(cluster: &Cluster) -> [Satellite; 2] {
    let mut satellites = Vec::new();
    for node in ["n1", "n2"] {
        cluster.create_node(node).await;
        satellites.push(Satellite::start(cluster, 0, node).await);
        cluster.create_pool(node).await;
    }
    wait_for_facts(cluster).await;
    satellites.try_into().ok().unwrap()
}

/// Placement rests on facts that the leader learns from the satellites and commits.
async fn wait_for_facts(cluster: &Cluster) {
    let view = cluster.members[0].controller.as_ref().unwrap().consensus.view().clone();
    let known = async {
        let mut revisions = view.revisions();
        while !view.state().nodes().all(|node| node.facts.is_some()) {
            revisions.changed().await.unwrap();
        }
    };
    soon("the nodes' facts", known).await;
}

pub(crate) fn create_request(name: &str) -> v1::CreateResourceRequest {
    v1::CreateResourceRequest {
        request_key: key(),
        name: name.into(),
        volume_sizes: vec![1 << 30],
        replicas: 2,
        ..Default::default()
    }
}

/// A ready resource on both nodes.
pub(crate) async fn create(cluster: &Cluster, name: &str) {
    let created = cluster.resources(0).create_resource(create_request(name)).await.unwrap().into_inner();
    assert_eq!(created.nodes, ["n1", "n2"]);
    let operation = cluster.wait(0, created.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded, "{operation:?}");
}

/// Attaches it and waits until consumers can use it.
pub(crate) async fn attach(cluster: &Cluster, name: &str, node: &str) -> v1::CreateAttachmentResponse {
    let request =
        v1::CreateAttachmentRequest { request_key: key(), resource: name.into(), node: node.into(), mode: 0 };
    let answer =
        soon("the answer", cluster.attachments(0).create_attachment(request)).await.unwrap().into_inner();
    let operation = cluster.wait(0, answer.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded, "{operation:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_passes_over_what_something_else_holds() {
    // Given a node on which a DRBD device and a daemon are not Hawser's.
    let range = |first, last| v1::NumberRange { first, last };
    let cluster = Cluster::single().await;
    let mut satellites = Vec::new();
    for node in ["n1", "n2"] {
        cluster.create_node(node).await;
        let satellite = Satellite::start(&cluster, 0, node).await;
        if node == "n1" {
            let numbers = v1::NumbersObserved {
                foreign_minors: vec![range(1000, 1001)],
                listening_ports: vec![range(22, 22), range(7000, 7000)],
                ..Default::default()
            };
            satellite.play_and_report(|script| script.numbers = Some(numbers)).await;
        }
        satellites.push(satellite);
        // The satellite is asked about the pool, and answers after that report.
        cluster.create_pool(node).await;
    }
    wait_for_facts(&cluster).await;

    create(&cluster, "data").await;

    let shown = show(&cluster, "data").await.unwrap().desired.unwrap();
    assert_eq!(shown.volumes[0].minor, 1002);
    let ports: Vec<_> = shown.replicas.iter().map(|replica| (replica.node.as_str(), replica.port)).collect();
    assert_eq!(ports, [("n1", 7001), ("n2", 7000)]);
}

async fn show(cluster: &Cluster, name: &str) -> Option<v1::ResourceView> {
    let request = v1::ListResourcesRequest { name: name.into(), ..Default::default() };
    cluster.resources(0).list_resources(request).await.unwrap().into_inner().resources.pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_created_attached_detached_and_deleted() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    let mut watch = WatchServiceClient::new(cluster.administrator(0))
        .watch(v1::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();

    create(&cluster, "data").await;
    let view = show(&cluster, "data").await.unwrap();
    let desired = view.desired.unwrap();
    assert_eq!(desired.lifecycle(), v1::ResourceLifecycle::Ready);
    assert!(desired.data_may_exist);
    assert_eq!(desired.shared_secret, "", "the API shows no secret");
    assert_eq!(view.conditions, []);
    assert_eq!(view.replicas.len(), 2);
    assert!(view.replicas.iter().all(|replica| replica.observed.is_some()));

    assert!(cluster.get(0, "/ready").await.starts_with("HTTP/1.1 200"));
    let metrics = cluster.get(0, "/metrics").await;
    for line in [
        "hawser_raft_is_leader 1",
        "hawser_sessions 2",
        "hawser_resources{lifecycle=\"ready\"} 1",
        "hawser_operations_running 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }

    let attached = attach(&cluster, "data", "n1").await;
    assert_eq!(attached.device_paths, [format!("/dev/mapper/hawser-data.{}-0", desired.incarnation)]);
    assert_eq!(attached.taken_over_from, "");
    let delete = v1::DeleteResourceRequest { request_key: key(), name: "data".into() };
    let refused = cluster.resources(0).delete_resource(delete.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("attached on node n1"), "{}", refused.message());

    let detach =
        v1::DeleteAttachmentRequest { request_key: key(), resource: "data".into(), node: "n1".into() };
    let detached = cluster.attachments(0).delete_attachment(detach).await.unwrap().into_inner();
    let operation = cluster.wait(0, detached.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded);

    let delete = v1::DeleteResourceRequest { request_key: key(), ..delete };
    let deleted = cluster.resources(0).delete_resource(delete).await.unwrap().into_inner();
    let operation = cluster.wait(0, deleted.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded);
    assert_eq!(show(&cluster, "data").await, None);

    // What a watcher saw of it: from its creation to its removal, without the secret.
    let mut seen = Vec::new();
    while seen.last() != Some(&true) {
        let response = soon("a change", watch.message()).await.unwrap().unwrap();
        for change in response.changes {
            if let Some(v1::change::Object::Resource(resource)) = change.object {
                assert_eq!(resource.shared_secret, "");
                seen.push(change.removed);
            }
        }
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_not_there_is_not_registered() {
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;

    let request = super::cluster::pool_request("n1", "vg");
    let offline = cluster.pools(0).create_pool(request).await.unwrap_err();
    assert!(offline.message().contains("node n1 is not connected"), "{}", offline.message());

    let _satellite = Satellite::start(&cluster, 0, "n1").await;
    let request = super::cluster::pool_request("n1", "elsewhere");
    let missing = cluster.pools(0).create_pool(request).await.unwrap_err();
    assert_eq!(missing.code(), Code::FailedPrecondition);
    assert!(missing.message().contains("there is no such volume group"), "{}", missing.message());

    let pools = cluster.pools(0).list_pools(v1::ListPoolsRequest::default()).await.unwrap().into_inner();
    assert_eq!(pools.pools, []);
    cluster.create_pool("n1").await;
    let pools = cluster.pools(0).list_pools(v1::ListPoolsRequest::default()).await.unwrap().into_inner();
    assert_eq!(pools.pools[0].desired.as_ref().unwrap().capacity_bytes, 100 << 30, "placeable at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_waits_says_why_and_can_be_cancelled() {
    let cluster = Cluster::single().await;
    let [one, two] = two_nodes(&cluster).await;
    two.play(|script| script.disk = Some(v1::DiskState::Inconsistent)).await;
    let created = cluster.resources(0).create_resource(create_request("data")).await.unwrap().into_inner();
    let id = created.result.unwrap().operation;
    drop(two);

    let view = cluster.members[0].controller.as_ref().unwrap().consensus.view().clone();
    let reason = async {
        let mut revisions = view.revisions();
        loop {
            if let Some(reason) = view.state().operation(OperationId::new(id)).unwrap().waits_for.clone() {
                return reason;
            }
            revisions.changed().await.unwrap();
        }
    };
    let reason = soon("the reason", reason).await;
    assert_eq!(reason.node, "n2");
    assert!(reason.message.contains("not connected to the controllers"), "{}", reason.message);

    let cancel = v1::CancelOperationRequest { request_key: key(), id };
    let mut operations = v1::operation_service_client::OperationServiceClient::new(cluster.administrator(0));
    operations.cancel_operation(cancel).await.unwrap();
    assert_eq!(cluster.wait(0, id).await.state(), v1::OperationState::Cancelled);
    let _two = Satellite::start(&cluster, 0, "n2").await;
    let gone = async {
        let mut revisions = view.revisions();
        while view.state().resource("data").is_some() {
            revisions.changed().await.unwrap();
        }
    };
    soon("the removal", gone).await;
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_key_makes_a_request_happen_once() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    let request = create_request("data");
    let first = cluster.resources(0).create_resource(request.clone()).await.unwrap().into_inner();
    let again = cluster.resources(0).create_resource(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again, "the same key and the same request");

    let other = v1::CreateResourceRequest { name: "other".into(), ..request.clone() };
    let refused = cluster.resources(0).create_resource(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("key"), "{}", refused.message());

    let fresh = v1::CreateResourceRequest { request_key: key(), ..request };
    let duplicate = cluster.resources(0).create_resource(fresh).await.unwrap_err();
    assert_eq!(duplicate.code(), Code::AlreadyExists, "a new key is a new request");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_of_one_revision() {
    let cluster = Cluster::single().await;
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        cluster.create_node(node).await;
    }
    let page = |token: String| v1::ListNodesRequest {
        page: Some(v1::PageRequest { size: 2, token }),
        ..Default::default()
    };
    let first = cluster.nodes(0).list_nodes(page(String::new())).await.unwrap().into_inner();
    cluster.create_node("n25").await;
    let second = cluster.nodes(0).list_nodes(page(first.next_page_token)).await.unwrap().into_inner();
    let third = cluster.nodes(0).list_nodes(page(second.next_page_token.clone())).await.unwrap().into_inner();

    let names = [first.nodes, second.nodes, third.nodes].concat();
    let names: Vec<_> = names.into_iter().map(|node| node.desired.unwrap().name).collect();
    assert_eq!(names, ["n1", "n2", "n3", "n4", "n5"], "what was made meanwhile is not among them");
    assert_eq!((first.revision, second.revision), (third.revision, third.revision));
    assert_eq!(third.next_page_token, "");

    let stale = cluster.nodes(0).list_nodes(page("1.n2".into())).await.unwrap_err();
    assert_eq!(stale.code(), Code::OutOfRange, "{stale:?}");
}
