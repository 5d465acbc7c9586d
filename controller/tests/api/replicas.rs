//! A replica is added and removed through the API, and what is refused.

use hawser_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    cluster::{Cluster, key},
    lifecycle::{attach, create_request, two_nodes},
    satellite::Satellite,
};

/// A resource with one replica, on n1.
async fn alone(cluster: &Cluster) -> [Satellite; 2] {
    let satellites = two_nodes(cluster).await;
    let request =
        v1::CreateResourceRequest { replicas: 1, nodes: vec!["n1".into()], ..create_request("data") };
    let created = cluster.resources(0).create_resource(request).await.unwrap().into_inner();
    ended(cluster, created.result).await;
    satellites
}

async fn ended(cluster: &Cluster, result: Option<v1::WriteResult>) {
    let operation = cluster.wait(0, result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded, "{operation:?}");
}

fn join(node: &str) -> v1::CreateReplicaRequest {
    v1::CreateReplicaRequest {
        request_key: key(),
        resource: "data".into(),
        node: node.into(),
        ..Default::default()
    }
}

fn leave(node: &str) -> v1::DeleteReplicaRequest {
    v1::DeleteReplicaRequest { request_key: key(), resource: "data".into(), node: node.into() }
}

async fn nodes(cluster: &Cluster) -> Vec<(String, v1::ReplicaLifecycle)> {
    let request = v1::ListReplicasRequest { resource: "data".into(), ..Default::default() };
    let listed = cluster.replicas(0).list_replicas(request).await.unwrap().into_inner().replicas;
    let of = |view: v1::NamedReplicaView| view.replica.unwrap().desired.unwrap();
    listed
        .into_iter()
        .map(of)
        .map(|replica| {
            let lifecycle = replica.lifecycle();
            (replica.node, lifecycle)
        })
        .collect()
}

fn field(status: &Status) -> String {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.first().map_or_else(String::new, |bad| bad.field.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_added_to_what_is_attached_and_removed_again() {
    // Given a resource that n1 has attached.
    let cluster = Cluster::single().await;
    let _satellites = alone(&cluster).await;
    attach(&cluster, "data", "n1").await;

    // When n2 gets a replica, and is asked for it again under the same key.
    let request = join("n2");
    let added = cluster.replicas(0).create_replica(request.clone()).await.unwrap().into_inner();
    assert_eq!(added.pool, "fast");
    ended(&cluster, added.result).await;
    let again = cluster.replicas(0).create_replica(request).await.unwrap().into_inner();

    // Then there are two, and it was one request.
    assert_eq!(again.result, added.result);
    let ready = |node: &str| (node.to_owned(), v1::ReplicaLifecycle::Ready);
    assert_eq!(nodes(&cluster).await, [ready("n1"), ready("n2")]);

    // When it is removed, only the first is left.
    let removed = cluster.replicas(0).delete_replica(leave("n2")).await.unwrap().into_inner();
    ended(&cluster, removed.result).await;
    assert_eq!(nodes(&cluster).await, [ready("n1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stays_while_no_other_one_can_be_used() {
    let cluster = Cluster::single().await;
    let [first, _second] = alone(&cluster).await;
    let added = cluster.replicas(0).create_replica(join("n2")).await.unwrap().into_inner();
    ended(&cluster, added.result).await;

    first.play_and_report(|script| script.disk = Some(v1::DiskState::Diskless)).await;
    // The disk's failure is committed a moment later: then the state refuses it.
    let refused = cluster.replicas(0).delete_replica(leave("n2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(nodes(&cluster).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_by_their_field() {
    let cluster = Cluster::single().await;
    let _satellites = alone(&cluster).await;
    type Join = fn(&mut v1::CreateReplicaRequest);
    let joins: [(&str, Join, Code, &str); 8] = [
        ("no key", |request| request.request_key.clear(), Code::InvalidArgument, "request_key"),
        ("characters", |request| request.resource = "Data/1".into(), Code::InvalidArgument, "resource"),
        ("no node", |request| request.node.clear(), Code::InvalidArgument, "node"),
        ("characters of a pool", |request| request.pool = "fast\n".into(), Code::InvalidArgument, "pool"),
        ("no such resource", |request| request.resource = "none".into(), Code::NotFound, "resource"),
        ("no such node", |request| request.node = "n9".into(), Code::NotFound, "node"),
        ("there already", |request| request.node = "n1".into(), Code::AlreadyExists, "node"),
        ("no such pool", |request| request.pool = "slow".into(), Code::ResourceExhausted, ""),
    ];
    for (what, spoil, code, expected) in joins {
        let mut request = join("n2");
        spoil(&mut request);
        let refused = cluster.replicas(0).create_replica(request).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (code, expected), "{what}: {refused}");
    }
    type Leave = fn(&mut v1::DeleteReplicaRequest);
    let leaves: [(&str, Leave, Code, &str); 6] = [
        ("no key", |request| request.request_key.clear(), Code::InvalidArgument, "request_key"),
        ("characters", |request| request.resource = "Data/1".into(), Code::InvalidArgument, "resource"),
        ("no node", |request| request.node.clear(), Code::InvalidArgument, "node"),
        ("no such resource", |request| request.resource = "none".into(), Code::NotFound, "resource"),
        ("no replica there", |request| request.node = "n2".into(), Code::NotFound, "node"),
        ("the only one", |_| {}, Code::FailedPrecondition, ""),
    ];
    for (what, spoil, code, expected) in leaves {
        let mut request = leave("n1");
        spoil(&mut request);
        let refused = cluster.replicas(0).delete_replica(request).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (code, expected), "{what}: {refused}");
    }
    assert_eq!(nodes(&cluster).await.len(), 1);
}
