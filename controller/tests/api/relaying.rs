//! Any controller will do: what a follower is asked, the leader answers.

use hawser_process::tls::Role;
use hawser_proto::v1::{
    self, node_service_client::NodeServiceClient, resource_service_client::ResourceServiceClient,
};
use tonic::{Code, Request};

use super::{
    cluster::{Cluster, key, node_request, soon},
    lifecycle::create_request,
    satellite::Satellite,
};

/// Positions of the member that leads, once one does, and of the others that run.
pub(crate) async fn leader_and_followers(cluster: &Cluster) -> (usize, Vec<usize>) {
    let known = async {
        loop {
            for (position, member) in cluster.members.iter().enumerate() {
                let mut leadership = member.controller.as_ref().unwrap().consensus.leadership();
                if leadership.borrow_and_update().leading_term().is_some() {
                    return position;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let leader = soon("a leader", known).await;
    (leader, (0..cluster.members.len()).filter(|position| *position != leader).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_sessions_writes_reads_and_waits() {
    let cluster = Cluster::of_three().await;
    let (_, followers) = leader_and_followers(&cluster).await;
    let (one, other) = (followers[0], followers[1]);

    // Every part of the way leads through a member that does not lead.
    let mut satellites = Vec::new();
    for node in ["n1", "n2"] {
        soon("the node", cluster.nodes(one).create_node(node_request(node))).await.unwrap();
        satellites.push(Satellite::start(&cluster, other, node).await);
        let request = super::cluster::pool_request(node, "vg");
        soon("the pool", cluster.pools(one).create_pool(request)).await.unwrap();
    }
    let mut resources = ResourceServiceClient::new(cluster.administrator(one));
    let request = create_request("data");
    let created = async {
        loop {
            // Until the nodes' facts have been learnt, placement refuses.
            let again = v1::CreateResourceRequest { request_key: key(), ..request.clone() };
            match resources.create_resource(again).await {
                Ok(created) => return created.into_inner(),
                Err(refused) => assert_ne!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
    };
    let created = soon("the resource", created).await;
    let operation = cluster.wait(other, created.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded);

    let list = v1::ListResourcesRequest::default();
    let fresh = cluster.resources(other).list_resources(list).await.unwrap().into_inner();
    assert!(
        fresh.resources[0].replicas.iter().all(|replica| replica.observed.is_some()),
        "the leader's view"
    );

    let stale = v1::ListNodesRequest { consistency: v1::Consistency::Stale.into(), ..Default::default() };
    let stale = cluster.nodes(one).list_nodes(stale).await.unwrap().into_inner();
    assert!(
        stale.nodes.iter().all(|node| node.observed.is_none()),
        "the follower's own, which observes nothing"
    );

    let status = cluster.cluster_client(one).get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.member, cluster.members[one].name, "answered by the asked member itself");
    assert!(status.has_quorum);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_takes_writes_when_the_first_ends_in_order() {
    let mut cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;
    let first = cluster.members[leader].controller.take().unwrap();
    first.stop().await;

    let mut nodes = NodeServiceClient::new(cluster.administrator(followers[0]));
    let request = node_request("n1");
    let written = async {
        loop {
            match nodes.create_node(request.clone()).await {
                Ok(_) => return,
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
    };
    soon("a write under the next leader", written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_controller_speaks_for_others() {
    let cluster = Cluster::single().await;
    let list = || Request::new(v1::ListNodesRequest::default());

    let mut pretending = list();
    pretending.metadata_mut().insert("hawser-on-behalf-of", "administrator/root".parse().unwrap());
    let mut satellite = NodeServiceClient::new(cluster.channel(0, Role::Satellite, "n1"));
    let refused = satellite.list_nodes(pretending).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut controller = NodeServiceClient::new(cluster.channel(0, Role::Controller, "c9"));
    assert_eq!(controller.list_nodes(list()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut relayed = list();
    relayed.metadata_mut().insert("hawser-on-behalf-of", "administrator/root".parse().unwrap());
    assert!(controller.list_nodes(relayed).await.is_ok());
}
