//! A node is declared lost: refused while it answers, and by name where data would be given up; then nothing waits for
//! it, and it is let in no more.

use hawser_process::tls::Role;
use hawser_proto::v1;
use tonic::{Code, Status};

use super::{
    bad_input::field,
    cluster::{Cluster, key, soon},
    lifecycle::{create, create_request, two_nodes},
    satellite::{hello, open},
};

fn lose(name: &str, accept: &[&str]) -> v1::LoseNodeRequest {
    let accept_data_loss = accept.iter().map(|name| (*name).to_owned()).collect();
    v1::LoseNodeRequest { request_key: key(), name: name.into(), accept_data_loss }
}

/// Asks again while the leader has just begun.
async fn answer(cluster: &Cluster, request: &v1::LoseNodeRequest) -> Result<v1::LoseNodeResponse, Status> {
    let asked = async {
        loop {
            match cluster.nodes(0).lose_node(request.clone()).await {
                Err(refused) if refused.code() == Code::Unavailable => {}
                answer => return answer.map(tonic::Response::into_inner),
            }
        }
    };
    soon("an answer", asked).await
}

async fn until_offline(cluster: &Cluster, name: &str) {
    let offline = async {
        loop {
            let request = v1::ListNodesRequest { name: name.into(), ..Default::default() };
            let nodes = cluster.nodes(0).list_nodes(request).await.unwrap().into_inner().nodes;
            if !nodes[0].online {
                return;
            }
        }
    };
    soon("the end of its session", offline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_goes_on_without_a_lost_node_which_is_refused() {
    // Given a resource on two nodes.
    let cluster = Cluster::single().await;
    let [_first, second] = two_nodes(&cluster).await;
    create(&cluster, "data").await;

    // A node that answers is not lost.
    let refused = answer(&cluster, &lose("n2", &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("its satellite is connected"), "{}", refused.message());

    // When it is off, and declared lost.
    drop(second);
    until_offline(&cluster, "n2").await;
    let request = lose("n2", &[]);
    let answered = answer(&cluster, &request).await.unwrap();
    assert_eq!(answer(&cluster, &request).await.unwrap(), answered, "the same request once more");

    // Then the other one goes on alone, and no operation waits.
    let alone = async {
        loop {
            let list = v1::ListResourcesRequest::default();
            let resources = cluster.resources(0).list_resources(list).await.unwrap().into_inner().resources;
            let nodes: Vec<_> =
                resources[0].replicas.iter().map(|it| it.desired.clone().unwrap().node).collect();
            if nodes == ["n1"] {
                return;
            }
        }
    };
    soon("the replica to be gone", alone).await;

    // And its satellite is told that it was given up; once forgotten, it is merely unknown.
    let back = || open(cluster.channel(0, Role::Satellite, "n2"), hello("n2"));
    let refused = soon("a refusal", back()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("node n2 was declared lost"), "{}", refused.message());
    let forget = v1::DeleteNodeRequest { request_key: key(), name: "n2".into() };
    cluster.nodes(0).delete_node(forget).await.unwrap();
    let refused = soon("a refusal", back()).await.unwrap_err();
    assert!(refused.message().contains("node n2 is not registered"), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_loss_is_refused_by_its_field_and_changes_nothing() {
    let cluster = Cluster::single().await;
    let [_first, second] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    let alone =
        v1::CreateResourceRequest { replicas: 1, nodes: vec!["n2".into()], ..create_request("scratch") };
    let created = cluster.resources(0).create_resource(alone).await.unwrap().into_inner();
    cluster.wait(0, created.result.unwrap().operation).await;
    drop(second);
    until_offline(&cluster, "n2").await;

    let no_key = v1::LoseNodeRequest { request_key: String::new(), ..lose("n2", &[]) };
    let table = [
        (no_key, Code::InvalidArgument, "request_key", "a request key has"),
        (lose("", &[]), Code::InvalidArgument, "name", ""),
        (lose("Node 2", &[]), Code::InvalidArgument, "name", ""),
        (lose("n9", &[]), Code::NotFound, "name", "hawser node list"),
        (lose("n2", &["Data/1"]), Code::InvalidArgument, "accept_data_loss[0]", ""),
        (lose("n2", &["scratch", "data"]), Code::InvalidArgument, "accept_data_loss[1]", "leave it out"),
        (lose("n2", &[]), Code::FailedPrecondition, "", "the last complete copy of scratch"),
    ];
    for (request, code, named, words) in table {
        let status = answer(&cluster, &request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (code, named), "{request:?}: {status:?}");
        assert!(status.message().contains(words), "{}", status.message());
    }
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    assert!(state.nodes().all(|node| !node.is_lost()));
    assert!(state.resource("data").unwrap().replicas.len() == 2 && state.resource("scratch").is_some());

    // Named, it is given up.
    answer(&cluster, &lose("n2", &["scratch"])).await.unwrap();
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    assert!(state.resource("scratch").is_none() && state.node("n2").unwrap().is_lost());
}
