//! Lists: only what was asked for, in pages of one revision, with only the fields that were asked for.

use hawser_proto::v1::{self, resource_service_client::ResourceServiceClient};
use prost_types::FieldMask;
use tonic::Code;

use super::{
    cluster::Cluster,
    lifecycle::{create, two_nodes},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_what_was_asked_for() {
    let cluster = Cluster::single().await;
    let satellites = two_nodes(&cluster).await;
    for name in ["data", "web"] {
        create(&cluster, name).await;
    }
    let names = async |request: v1::ListResourcesRequest| {
        let answer = cluster.resources(0).list_resources(request).await.unwrap().into_inner();
        let name = |view: v1::ResourceView| view.desired.unwrap().name;
        answer.resources.into_iter().map(name).collect::<Vec<_>>()
    };
    let request = v1::ListResourcesRequest::default;

    for (what, request, expected) in [
        ("all", request(), vec!["data", "web"]),
        ("by name", v1::ListResourcesRequest { name: "web".into(), ..request() }, vec!["web"]),
        ("by group", v1::ListResourcesRequest { group: "default".into(), ..request() }, vec!["data", "web"]),
        ("of another group", v1::ListResourcesRequest { group: "fast".into(), ..request() }, vec![]),
        ("by node", v1::ListResourcesRequest { node: "n1".into(), ..request() }, vec!["data", "web"]),
        ("on another node", v1::ListResourcesRequest { node: "n9".into(), ..request() }, vec![]),
        ("that differ", v1::ListResourcesRequest { differing_only: true, ..request() }, vec![]),
    ] {
        assert_eq!(names(request).await, expected, "{what}");
    }

    // When a satellite is gone, all that lies there differs.
    drop(satellites);
    let differing = async {
        while names(v1::ListResourcesRequest { differing_only: true, ..request() }).await != ["data", "web"] {
            tokio::task::yield_now().await;
        }
    };
    super::cluster::soon("the difference", differing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_from_one_revision_and_with_the_fields_that_were_asked_for() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    for name in ["a", "b", "c"] {
        create(&cluster, name).await;
    }
    let mut resources: ResourceServiceClient<_> = cluster.resources(0);
    let mut request = v1::ListResourcesRequest {
        page: Some(v1::PageRequest { size: 2, token: String::new() }),
        read_mask: Some(FieldMask { paths: vec!["desired".into()] }),
        ..Default::default()
    };

    let first = resources.list_resources(request.clone()).await.unwrap().into_inner();
    create(&cluster, "bb").await;
    request.page = Some(v1::PageRequest { size: 2, token: first.next_page_token });
    let second = resources.list_resources(request.clone()).await.unwrap().into_inner();

    assert_eq!((first.resources.len(), second.resources.len()), (2, 1), "what came later is in no page");
    assert_eq!(first.revision, second.revision);
    assert_eq!(second.next_page_token, "");
    for view in first.resources.iter().chain(&second.resources) {
        assert!(view.desired.is_some() && view.replicas.is_empty(), "{view:?}");
    }

    request.page = None;
    request.read_mask = Some(FieldMask { paths: vec!["desired".into(), "secrets".into()] });
    let refused = resources.list_resources(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("\"secrets\""), "{}", refused.message());
}
