//! Changes as watchers hear of them: from any member, resumed with another, and never from one that is cut off.

use hawser_proto::v1::{
    self, ObjectKind, change::Object, node_service_client::NodeServiceClient,
    watch_service_client::WatchServiceClient,
};
use tonic::{Code, Streaming};

use super::{
    cluster::{Cluster, node_request, soon},
    relaying::leader_and_followers,
};

async fn watch(cluster: &Cluster, member: usize, request: v1::WatchRequest) -> Streaming<v1::WatchResponse> {
    let mut client = WatchServiceClient::new(cluster.administrator(member));
    soon("the watch", client.watch(request)).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<v1::WatchResponse>) -> v1::WatchResponse {
    soon("a change", watch.message()).await.unwrap().unwrap()
}

/// The next response that says something, with the names of the nodes in it.
async fn next_nodes(watch: &mut Streaming<v1::WatchResponse>) -> (u64, Vec<String>) {
    loop {
        let response = next(watch).await;
        let name = |change: v1::Change| match change.object {
            Some(Object::Node(node)) => node.name,
            other => panic!("only nodes were asked for, not {other:?}"),
        };
        if !response.changes.is_empty() {
            return (response.revision, response.changes.into_iter().map(name).collect());
        }
    }
}

fn of_nodes(after_revision: u64) -> v1::WatchRequest {
    v1::WatchRequest { after_revision, kinds: vec![ObjectKind::Node.into()], name: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_with_another_member_where_it_broke() {
    let cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;

    // Given a watch with a follower, which says at once where it begins.
    let mut first = watch(&cluster, followers[0], of_nodes(0)).await;
    let begins = next(&mut first).await;
    assert!(begins.revision > 0 && begins.changes.is_empty(), "{begins:?}");
    for node in ["n1", "n2"] {
        let mut nodes = NodeServiceClient::new(cluster.administrator(leader));
        nodes.create_node(node_request(node)).await.unwrap();
    }
    let (heard, names) = next_nodes(&mut first).await;
    assert_eq!(names, ["n1"]);

    // When it breaks and goes on with each of the others, then each says what came after, and nothing else.
    drop(first);
    for member in [leader, followers[1]] {
        let mut resumed = watch(&cluster, member, of_nodes(heard)).await;
        assert_eq!(next(&mut resumed).await, v1::WatchResponse { revision: heard, changes: vec![] });
        assert_eq!(next_nodes(&mut resumed).await.1, ["n2"], "with member {member}");
    }

    // And by name, only what is about that object comes.
    let mut named =
        watch(&cluster, leader, v1::WatchRequest { name: "n2".into(), ..of_nodes(begins.revision) }).await;
    assert_eq!(next_nodes(&mut named).await.1, ["n2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_cut_off_says_so_to_watchers_and_readers() {
    let mut cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;
    let mut watching = watch(&cluster, followers[0], v1::WatchRequest::default()).await;
    next(&mut watching).await;

    // When it is the last one left.
    for gone in [leader, followers[1]] {
        cluster.members[gone].controller.take().unwrap().stop().await;
    }

    let end = async {
        loop {
            if let Err(end) = watching.message().await {
                return end;
            }
        }
    };
    let end = soon("the end of the watch", end).await;
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    let name = &cluster.members[followers[0]].name;
    for words in [name.as_str(), "has not heard of a leader", "watch another controller"] {
        assert!(end.message().contains(words), "{words:?} in {:?}", end.message());
    }

    let mut nodes = cluster.nodes(followers[0]);
    let fresh = nodes.list_nodes(v1::ListNodesRequest::default()).await.unwrap_err();
    assert_eq!(fresh.code(), Code::Unavailable, "{fresh:?}");
    for words in [name.as_str(), "knows no leader", "--stale"] {
        assert!(fresh.message().contains(words), "{words:?} in {:?}", fresh.message());
    }
    let stale = v1::ListNodesRequest { consistency: v1::Consistency::Stale.into(), ..Default::default() };
    assert!(nodes.list_nodes(stale).await.is_ok(), "what it remembers can be asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_nobody_knows_is_refused_by_its_field() {
    let cluster = Cluster::single().await;
    let request = v1::WatchRequest { kinds: vec![ObjectKind::Node.into(), 99], ..Default::default() };

    let refused = WatchServiceClient::new(cluster.administrator(0)).watch(request).await.unwrap_err();

    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("99"), "{}", refused.message());
}
